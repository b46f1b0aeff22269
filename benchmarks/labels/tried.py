"""What was tried on the way to ratio 'evidence', for CNNs."""
from typing import Dict

import torch.nn.functional as F

from timm_sumix.correction import evidence_map
from timm_sumix.correction.evidence import POWER
from timm_sumix.maps import features_by_place

from .base import Labeller
from .rivals import class_activation, logits_by_place, to_unit_range, visible_share


def _strength(model, images):
    maps = model.forward_features(images)
    return evidence_map(features_by_place(model, maps, (images.shape[-2], images.shape[-1]))) ** (1 / POWER)


def _class_activation(model, mixed, target, masks):
    return visible_share(class_activation(model, target.original, target.labels) ** 3, target)


def _strength_and_class(model, mixed, target, masks):
    evidence = to_unit_range(_strength(model, target.original)) ** 3
    return visible_share(evidence * class_activation(model, target.original, target.labels), target)


def _logits_norm(model, mixed, target, masks):
    logits = logits_by_place(model, target.original)
    norm = (logits - logits.mean(-1, keepdim=True)).norm(dim=-1)
    return visible_share(to_unit_range(norm) ** 3, target)


def _local_cosine(model, mixed, target, masks):
    # similarity of the mixture's features to each image's, place by place; this one needs no mask
    maps, mixed_maps = model.forward_features(target.original), model.forward_features(mixed)
    evidence = to_unit_range(_strength(model, target.original)) ** 3
    a, b = (
        (own * F.cosine_similarity(mixed_maps, features, dim=1)).sum((1, 2)) / own.sum((1, 2)).clamp(min=1e-6)
        for own, features in ((evidence, maps), (target.partner(evidence), target.partner(maps))))
    return a / (a + b).clamp(min=1e-6)


TRIED: Dict[str, Labeller] = {
    'class activation ^ 3': _class_activation,
    'norm of logits by place ^ 3': _logits_norm,
    'strength ^ 3 x class activation': _strength_and_class,
    'cosine by place': _local_cosine,
}
