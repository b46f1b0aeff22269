"""Spatial evidence from a model's last feature map: where in an image the model sees an object.

At an object the features differ from the background's, whatever its class: no label and no class activation map is
needed. Reading an object's place from the features of the unmixed image is the idea of SnapMix
(https://arxiv.org/abs/2012.04846), which weights them by the label's class.
"""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F

from ..region import Mixing
from ..target import MixedTarget

POWER = 4.  # of the evidence: 3 is truer of objects that fill the frame, 5 of small ones
NEIGHBOURS = 3  # cells a side that are averaged: a place's features have seen about as far
QUARTILE = 0.6745  # of a normal distribution, in standard deviations from its mean
_TINY = 1e-6


@torch.no_grad()
def evidence_map(
        features: torch.Tensor, seen: Optional[torch.Tensor] = None, mixing: Optional[Mixing] = None) -> torch.Tensor:
    """Return the evidence at each place [N, h, w], float32: how far the features are from the image's background.

    Background features are, in each channel, the lower quartile of a normal distribution of the channel's mean and
    standard deviation over the places. Distances are averaged over neighbouring places (beyond the border there is no
    evidence), divided by the greatest in the image, and raised to the fourth power.

    Args:
        features: Last feature map by place [N, h, w, D].
        seen: Fraction of each cell that the mixed images show [N, h, w], in [0, 1], as unmix returns it; None: all.
        mixing: How the images were mixed, with `seen`, to guess what is not seen.
    """
    features = features.detach().float()
    deviation, mean = torch.std_mean(features, dim=(1, 2), correction=0, keepdim=True)
    distance = torch.linalg.vector_norm(features - mean.sub(deviation, alpha=QUARTILE), dim=-1)
    if seen is None:
        strength = _average(distance)
    else:
        strength = _average(distance * seen) * _average(torch.ones_like(seen)) / _average(seen).clamp(min=_TINY)
    greatest = strength.amax((1, 2), keepdim=True).clamp(min=_TINY)
    evidence = (strength / greatest).clamp(min=_TINY) ** POWER
    if seen is None or mixing is None:
        return evidence
    # what is not seen has, by area, the geometric mean of what is seen of the image and of its partner
    density = (evidence * seen).sum((1, 2), keepdim=True) / seen.sum((1, 2), keepdim=True).clamp(min=_TINY)
    partners = mixing.partner(density) * (mixing.partner(greatest) / greatest) ** POWER
    evidence = evidence * seen + (1. - seen) * (density * partners).sqrt()
    in_place = mixing.partner_in_place((evidence.shape[1], evidence.shape[2]))
    if in_place is None:
        return evidence
    # a partner that is shown whole, at a smaller size: only what is outside its box is seen, half is spread evenly
    return torch.where(in_place.view(-1, 1, 1), evidence, torch.lerp(evidence, evidence.mean((1, 2), True), 0.5))


def _average(strength: torch.Tensor) -> torch.Tensor:
    """Return the mean of each cell and its neighbours, with zeros beyond the border."""
    return F.avg_pool2d(strength.unsqueeze(1), NEIGHBOURS, stride=1, padding=NEIGHBOURS // 2).squeeze(1)


def visible_evidence(evidence: torch.Tensor, target: MixedTarget) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return which fraction of each image's evidence [N, h, w], and of its partner's, the mixed image shows [N]."""
    weights = evidence / evidence.sum((1, 2), keepdim=True)
    first, second = target.visible_fraction((evidence.shape[1], evidence.shape[2]))
    return (weights * first).sum((1, 2)), (target.partner(weights) * second).sum((1, 2))
