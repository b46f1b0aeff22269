"""The labellers that models are trained with in the comparison, by name."""
from typing import Dict

import torch

from timm_sumix.correction import create_ratio, visible_evidence
from timm_sumix.passes import SUMixModule

from .base import Labeller, Labels
from .rivals import evidence_of_mixture, lumix, snapmix
from .truth import true_shares, visibility_of_both


def _pass_only(model, mixed, target, masks):
    model(target.original)  # batch norm sees the unmixed images, as it does with every label of two passes
    return target.lam


def _true_in_one_pass(model, mixed, target, masks):
    share = true_shares(masks, target)
    return torch.where(share.isnan(), target.lam, share)


def _true(model, mixed, target, masks):
    model(target.original)  # as above
    return _true_in_one_pass(model, mixed, target, masks)


def _true_faded(model, mixed, target, masks):
    return Labels(_true(model, mixed, target, masks), sum(visibility_of_both(masks, target)))


def _visible(model, mixed, target, masks):
    # with WeightedBinaryCrossEntropy: each class's target is the visible fraction of its object
    model(target.original)  # as above
    return Labels(true_shares(masks, target).nan_to_num(0.), sum(visibility_of_both(masks, target)))


def _evidence_faded(model, mixed, target, masks):
    # correct() would give the shares alone; the weight is of the same evidence
    ratio = create_ratio('evidence')
    mixed_output, original = SUMixModule(model, ratio, original_pass='no-grad')(mixed, target.original)
    lam = ratio(mixed_output, original, target)
    return Labels(lam, sum(visible_evidence(original.evidence, target)))


LABELLERS: Dict[str, Labeller] = {
    'snapmix': snapmix,
    'lumix': lumix,
    'pass': _pass_only,
    'true': _true,
    'true, one pass': _true_in_one_pass,
    'true, faded': _true_faded,
    'visible': _visible,
    'evidence, faded': _evidence_faded,
    'evidence of the mixture': evidence_of_mixture,
}
