"""CutMix: a box of the partner pasted at the same place.

Paper: CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, ICCV 2019,
https://arxiv.org/abs/1905.04899

The box is that of timm 1.0.31: its centre lies anywhere in the image, its sides are cut at the border, and with
`minmax` its sides are drawn instead of its area (timm 1.0.27 and 1.0.28 make boxes of odd sides one pixel smaller).
"""
from dataclasses import dataclass
from typing import Optional, Tuple

import torch

from .box import Box, BoxPolicy, centred_box
from .sampling import both_sides, draw_beta, draw_integers, where_to_draw


@dataclass(frozen=True)
class CutMix(BoxPolicy):
    """mixed = x outside the box, x' inside.

    Args:
        alpha: The share outside the box is drawn from Beta(alpha, alpha), greater than 0.
        minmax: Draw each side uniformly from this range of shares of the image's side instead, as timm does.
    """
    alpha: float = 0.2
    minmax: Optional[Tuple[float, float]] = None
    limits = {'minmax': (0., 1.)}

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Box:
        device = where_to_draw(count, x, rows)
        length = both_sides(x.shape[-2:], device)
        if self.minmax is None:
            side = length * (1. - draw_beta(self.alpha, count, device)) ** 0.5 // 1
            return centred_box(draw_integers(0, length, count), side, length)
        least, most = ([int(side * share) for side in x.shape[-2:]] for share in self.minmax)
        ends = [max(high, low + 1) for low, high in zip(least, most)]
        side = draw_integers(both_sides(least, device), both_sides(ends, device), count)
        start = draw_integers(0, length - side + 1, count)
        return Box(start.T, (start + side).T)
