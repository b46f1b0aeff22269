"""What a labeller is, and the fading of a target of which little is visible.

A labeller takes (model, mixed images [N, 3, S, S], their MixedTarget, masks of the objects in the unmixed images
[N, S, S]) and returns shares [N], or Labels. It makes the passes that it needs itself, without gradient, in the mode
that the model is in.
"""
from typing import Callable, NamedTuple, Optional, Union

import torch

from timm_sumix import MixedTarget


class Labels(NamedTuple):
    """What a labeller says of a mixed batch.

    Args:
        lam: Shares of the first images [N], in [0, 1].
        weight: Weight of the target [N], 0 or greater, beside equal probabilities, see `fade`; None: 1 throughout.
    """
    lam: torch.Tensor
    weight: Optional[torch.Tensor] = None


Labeller = Callable[[torch.nn.Module, torch.Tensor, MixedTarget, torch.Tensor], Union[torch.Tensor, Labels]]


def fade(target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return weight * t + (1 - weight) / C: the lower its weight, the nearer a target is to equal probabilities.

    Args:
        target: Soft target t [N, C].
        weight: Its weight [N], 0 or greater; above 1 it counts as 1.
    """
    weight = weight.clamp(max=1).unsqueeze(1)
    return weight * target + (1. - weight) / target.shape[1]
