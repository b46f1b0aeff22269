"""Controls of the comparison: shuffled corrections, and losses that are added, re-derived in a few lines each.

Decoupled Mixup: Harnessing Hard Mixed Samples with Decoupled Regularizer, NeurIPS 2023,
https://arxiv.org/abs/2203.10761
RegMixup: Mixup as a Regularizer Can Surprisingly Improve Accuracy and Out-of-Distribution Robustness, NeurIPS 2022,
https://arxiv.org/abs/2206.14502; it mixes by mixup at a high alpha, here the images are mixed as in the other arms
They are not their authors' code.
"""
from functools import partial
from typing import Callable, Dict

import torch
import torch.nn.functional as F

from timm_sumix import MixedTarget
from timm_sumix.correction import Ratio, create_ratio

NEIGHBOURS = 8  # samples of a batch, sorted by area, among which corrections are shuffled
DECOUPLED_WEIGHT = 0.1  # the paper's eta


class Shuffled(Ratio):
    """Each sample gets the correction of another of about the same area: of the right size, for the wrong picture."""

    def __init__(self, name: str = 'evidence') -> None:
        self.ratio = create_ratio(name)
        self.reads, self.reads_mixed, self.may_lack = self.ratio.reads, self.ratio.reads_mixed, self.ratio.may_lack

    def shares(self, mixed, original, target):
        """Return the shuffled shares [N]."""
        change = self.ratio(mixed, original, target) - target.lam
        by_area = target.area.argsort()
        with torch.random.fork_rng(devices=[]):  # boxes and batches are drawn as they are without this
            position = (torch.arange(len(change)) // NEIGHBOURS + torch.rand(len(change))).to(change.device)
        shuffled = torch.empty_like(change)
        shuffled[by_area] = change[by_area[position.argsort()]]
        return (target.lam + shuffled).clamp(0., 1.)


def decoupled(
        model: torch.nn.Module, images: torch.Tensor, logits: torch.Tensor, target: MixedTarget) -> torch.Tensor:
    """Return Decoupled Mixup's term: each class of a mixed image against all but the other one, whatever the share."""
    pair = (target.labels, target.partner_labels)
    terms = []
    for own, other in (pair, pair[::-1]):
        others = torch.zeros_like(logits).scatter(1, other[:, None], -torch.inf)
        without = torch.where((own == other)[:, None], logits, logits + others)
        terms.append(F.cross_entropy(without, own))
    return DECOUPLED_WEIGHT * sum(terms)


def regmixup(
        model: torch.nn.Module, images: torch.Tensor, logits: torch.Tensor, target: MixedTarget) -> torch.Tensor:
    """Return the cross-entropy of the unmixed images, in a pass of their own: a step costs twice the time."""
    return F.cross_entropy(model(images), target.labels)


# (model, unmixed images [N, 3, S, S], logits [N, C] of the mixed ones, target) -> loss
EXTRAS: Dict[str, Callable[..., torch.Tensor]] = {'decoupled': decoupled, 'regmixup': regmixup}
RATIOS: Dict[str, Callable[[], Ratio]] = {
    'shuffled': Shuffled, 'combined, shuffled': partial(Shuffled, 'combined')}
