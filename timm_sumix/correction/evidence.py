"""Spatial evidence from a model's last feature map: where in an image the model sees an object.

At an object the features differ from the background's, whatever the object's class. So the evidence needs no class
activation map, and with it no label and no second head. Reading an object's place from the features of the unmixed
image is the idea of SnapMix (https://arxiv.org/abs/2012.04846), which weights them by the label's class.
"""
from typing import Any, Tuple

import torch

from ..maps import features_by_place
from ..target import MixedTarget

POWER = 3.  # of the unmixed images' evidence: 2 to 4 do as well, see docs/evidence_appendix.md
MIXED_POWER = 2.  # of the mixed images': models trained better with it than with 1.5
QUARTILE = 0.6745  # of a normal distribution, in standard deviations from its mean
_TINY = 1e-6


@torch.no_grad()
def evidence_map(model: torch.nn.Module, maps: Any, size: Tuple[int, int]) -> torch.Tensor:
    """Return the strength of the features at each place: their distance from the image's background features.

    Background features are, in each channel, the lower quartile over the image's places: zero behind a ReLU, and those
    of a typical background token in a transformer.

    Args:
        model: The timm model that made the maps.
        maps: What its forward_features returned: [N, D, h, w], [N, h, w, D] or tokens [N, T, D].
        size: Height and width of the images in pixels.

    Returns:
        Euclidean distances [N, h, w], float32, no gradient.

    Raises:
        TypeError: If maps are of another shape.
    """
    features = features_by_place(model, maps, size).detach().float()
    places = features.flatten(1, 2)
    background = places.kthvalue((places.shape[1] + 3) // 4, dim=1).values
    return (features - background[:, None, None]).norm(dim=-1)


@torch.no_grad()
def mixed_evidence_map(model: torch.nn.Module, maps: Any, size: Tuple[int, int]) -> torch.Tensor:
    """Return the strength of the features at each place of mixed images, as evidence_map does, at a lower cost.

    Background features are, in each channel, what a normal distribution of the channel's mean and standard deviation
    has for a lower quartile: as good as the quartile itself (see docs/evidence_appendix.md), and found without a sort.
    """
    features = features_by_place(model, maps, size).detach().float()
    deviation, mean = torch.std_mean(features, dim=(1, 2), correction=0, keepdim=True)
    return (features - (mean - QUARTILE * deviation)).square().sum(-1).sqrt()


def evidence_weights(evidence: torch.Tensor, power: float) -> torch.Tensor:
    """Return evidence [N, h, w] over its maximum in each image, to a power: weights in (0, 1], float32.

    Where the evidence is the same everywhere, each place counts the same.
    """
    evidence = evidence.float()
    relative = evidence / evidence.amax((1, 2), keepdim=True).clamp(min=_TINY)
    return relative.clamp(min=_TINY) ** power


def visible_evidence(
        evidence: torch.Tensor,
        target: MixedTarget,
        power: float = POWER,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return which fraction of each image's evidence, and of its partner's, the mixed image shows.

    Args:
        evidence: Strength of the unmixed images' features by place [N, h, w].
        target: The mixed batch, with its mask.
        power: Power of evidence_weights.

    Returns:
        Two tensors [N], float32, in [0, 1].
    """
    weights = evidence_weights(evidence, power)
    weights = weights / weights.sum((1, 2), keepdim=True)
    first, second = target.visible_fraction((evidence.shape[1], evidence.shape[2]))
    return (weights * first).sum((1, 2)), (target.partner(weights) * second).sum((1, 2))
