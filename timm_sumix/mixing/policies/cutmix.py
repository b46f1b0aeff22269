"""CutMix: a box of the partner pasted at the same place.

Paper: CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, ICCV 2019,
https://arxiv.org/abs/1905.04899

The box is that of timm 1.0.31: its centre lies anywhere in the image, its sides are cut at the border, and with
`minmax` its sides are drawn instead of its area (timm 1.0.27 and 1.0.28 make boxes of odd sides one pixel smaller).
Drawn by torch for all images at once, on the device, or on the host where one box is for the whole batch.
"""
from dataclasses import dataclass
from typing import Optional, Tuple

import torch

from .base import Policy
from .box import Box, centred_box, outside_mask, outside_share, paste_boxes
from .sampling import both_sides, check_alpha, draw_beta, draw_integers, on_device_of, where_to_draw


@dataclass(frozen=True)
class CutMix(Policy):
    """mixed = x outside the box, x' inside.

    Args:
        alpha: The share outside the box is drawn from Beta(alpha, alpha), greater than 0.
        minmax: Draw each side uniformly from this range of shares of the image's side instead, as timm does.
        correct_lam: True: lam is the share of pixels kept. False: lam is the share drawn, whatever the border cut off
            (timm's argument; it has no effect together with minmax).

    Raises:
        ValueError: If alpha is not greater than 0, or minmax is not 0 <= min < max <= 1.
    """
    alpha: float = 0.2
    minmax: Optional[Tuple[float, float]] = None
    correct_lam: bool = True

    def __post_init__(self):
        check_alpha(self.alpha)
        if self.minmax is not None and not (len(self.minmax) == 2 and 0. <= self.minmax[0] < self.minmax[1] <= 1.):
            raise ValueError(f'minmax must be two shares with 0 <= min < max <= 1, got {self.minmax}')

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Box:
        """Draw one box for each of `count` images of x's height and width."""
        device = where_to_draw(count, x, rows)
        lam, length = draw_beta(self.alpha, count, device), both_sides(x.shape[-2:], device)
        if self.minmax is None:
            return centred_box(draw_integers(0, length, count), length * (1. - lam) ** 0.5 // 1, length, lam)
        least, most = ([int(side * share) for side in x.shape[-2:]] for share in self.minmax)
        ends = [max(high, low + 1) for low, high in zip(least, most)]
        side = draw_integers(both_sides(least, device), both_sides(ends, device), count)
        start = draw_integers(0, length - side + 1, count)
        return Box(start.T, (start + side).T, lam)

    def mask(self, params: Box, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the mask [count, 1, H, W], False inside the box, and lam [count]."""
        return outside_mask(params, x), self._lam(params, x)

    def mix(self, params: Box, x: torch.Tensor) -> Optional[torch.Tensor]:
        """Return the mixed images where slices are faster than masks, else None."""
        return paste_boxes(params, x)

    def _lam(self, params: Box, x: torch.Tensor) -> torch.Tensor:
        return outside_share(params, x) if self.correct_lam or self.minmax else on_device_of(x, params.lam)
