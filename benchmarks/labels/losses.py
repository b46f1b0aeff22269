"""Losses of the comparison: criteria that fade targets, and losses that are added, re-derived in a few lines each.

Decoupled Mixup: Harnessing Hard Mixed Samples with Decoupled Regularizer, NeurIPS 2023,
https://arxiv.org/abs/2203.10761
RegMixup: Mixup as a Regularizer Can Surprisingly Improve Accuracy and Out-of-Distribution Robustness, NeurIPS 2022,
https://arxiv.org/abs/2206.14502; it mixes by mixup at a high alpha, here the images are mixed as in the other arms
They are not their authors' code.
"""
from typing import Callable, Dict, Optional

import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy

from timm_sumix import MixedTarget

DECOUPLED_WEIGHT = 0.1  # the paper's eta


def fade(target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return weight * t + (1 - weight) / C: the lower its weight, the nearer a target is to equal probabilities.

    Args:
        target: Soft target t [N, C].
        weight: Its weight [N], 0 or greater; above 1 it counts as 1.
    """
    weight = weight.clamp(max=1).unsqueeze(1)
    return weight * target + (1. - weight) / target.shape[1]


class FadingCrossEntropy(SoftTargetCrossEntropy):
    """Cross-entropy under a soft target that fades to equal probabilities by `sample_weight` [N]; None: it does not."""

    sample_weight: Optional[torch.Tensor] = None

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits [N, C] under targets [N, C]."""
        return super().forward(x, target if self.sample_weight is None else fade(target, self.sample_weight))


class WeightedBinaryCrossEntropy(BinaryCrossEntropy):
    """timm's binary cross-entropy under a soft target times `sample_weight` [N], whose sum may be greater than 1."""

    sample_weight: Optional[torch.Tensor] = None

    def __init__(self):
        super().__init__(smoothing=0.)

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits [N, C] under targets [N, C], at most 1 each."""
        if self.sample_weight is not None:
            target = (target * self.sample_weight[:, None]).clamp(max=1.)
        return super().forward(x, target)


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


CRITERIA: Dict[str, Callable[[], torch.nn.Module]] = {
    'cross-entropy': FadingCrossEntropy,
    'binary cross-entropy': WeightedBinaryCrossEntropy,
}
# (model, unmixed images [N, 3, S, S], logits [N, C] of the mixed ones, target) -> loss
EXTRAS: Dict[str, Callable[..., torch.Tensor]] = {'decoupled': decoupled, 'regmixup': regmixup}
