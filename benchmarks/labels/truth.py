"""The true share of each object in a mixed image, and which mixed images a label is compared with the truth on."""
from typing import Tuple

import torch

from timm_sumix import MixedTarget


def visibility_of_both(masks: torch.Tensor, target: MixedTarget) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return the visible fractions of the first images' objects and of the partners' [N], from masks [N, S, S]."""
    def visible(masks: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        return (masks * shown).flatten(1).sum(1) / masks.flatten(1).sum(1).clamp(min=1)

    first, second = target.visible_fraction((masks.shape[-2], masks.shape[-1]))
    return visible(masks, first), visible(target.partner(masks), second)


def true_shares(masks: torch.Tensor, target: MixedTarget) -> torch.Tensor:
    """Return each first image's true share [N]: visible_a / (visible_a + visible_b), NaN where neither is visible.

    `masks` are those of the objects in the unmixed images [N, S, S], bool.
    """
    first, second = visibility_of_both(masks, target)
    return first / (first + second)


def comparable(target: MixedTarget, true: torch.Tensor) -> torch.Tensor:
    """Return which samples are compared with the truth [N] bool: two classes, at least one of the objects visible."""
    return (target.labels != target.partner_labels) & ~true.isnan()
