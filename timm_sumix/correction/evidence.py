"""Spatial evidence from a model's last feature map: where in an image the model sees an object.

At an object the features differ from the background's, whatever the object's class. So the evidence needs no class
activation map, and with it no label and no second head. Reading an object's place from the features of the unmixed
image is the idea of SnapMix (https://arxiv.org/abs/2012.04846), which weights them by the label's class.
"""
from typing import Tuple

import torch

from ..compat import features_by_place
from ..target import MixedTarget

POWER = 3.  # 2 to 4 do as well, see docs/evidence.md
_TINY = 1e-6


@torch.no_grad()
def evidence_map(model: torch.nn.Module, maps: torch.Tensor, size: Tuple[int, int]) -> torch.Tensor:
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


def visible_evidence(
        evidence: torch.Tensor,
        target: MixedTarget,
        power: float = POWER,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return which fraction of each image's evidence, and of its partner's, the mixed image shows.

    Args:
        evidence: Strength of the unmixed images' features by place [N, h, w].
        target: The mixed batch, with its mask.
        power: The strength over its maximum is raised to this power, then made to sum to 1 in each image. Where it is
            the same everywhere, each place counts the same.

    Returns:
        Two tensors [N], float32, in [0, 1].
    """
    evidence = evidence.float()
    relative = evidence / evidence.amax((1, 2), keepdim=True).clamp(min=_TINY)
    weights = relative.clamp(min=_TINY) ** power
    weights = weights / weights.sum((1, 2), keepdim=True)
    first, second = target.visible_fraction((evidence.shape[1], evidence.shape[2]))
    return (weights * first).sum((1, 2)), (target.partner(weights) * second).sum((1, 2))
