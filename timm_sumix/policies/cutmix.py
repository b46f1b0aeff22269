"""CutMix: a box of the partner pasted at the same place.

Paper: CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, ICCV 2019,
https://arxiv.org/abs/1905.04899

The box is that of timm 1.0.31: its centre lies anywhere in the image, its sides are cut at the border, and with
`minmax` its sides are drawn instead of its area (timm 1.0.27 and 1.0.28 make boxes of odd sides one pixel smaller).
Drawn by torch on the device for all images at once.
"""
from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

import torch

from ._draw import check_alpha, draw_beta, draw_integers


class Box(NamedTuple):
    """Boxes in pixels, ends excluded, and the drawn share of what lies outside: five tensors [count]."""
    top: torch.Tensor
    bottom: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    lam: torch.Tensor


@dataclass(frozen=True)
class CutMix:
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

    def draw(self, count: int, x: torch.Tensor) -> Box:
        """Draw one box for each of `count` images of x's height and width."""
        lam = draw_beta(self.alpha, count, x.device)
        top, bottom = self._draw_side(x.shape[-2], lam)
        left, right = self._draw_side(x.shape[-1], lam)
        return Box(top, bottom, left, right, lam)

    def _draw_side(self, length: int, lam: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        ends = torch.full_like(lam, length)
        if self.minmax is None:
            side = (length * (1. - lam).sqrt()).floor()
            start = draw_integers(0, ends) - (side / 2).floor()
            return start.clamp(min=0), (start + side).clamp(max=length)
        low, high = (int(length * share) for share in self.minmax)
        side = draw_integers(low, torch.full_like(lam, max(high, low + 1)))
        start = draw_integers(0, ends - side + 1)
        return start, start + side

    def mask(self, params: Box, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the mask [count, 1, H, W], False inside the box, and lam [count]."""
        height, width = x.shape[-2:]
        top, bottom, left, right = (edge.view(-1, 1, 1, 1) for edge in params[:4])
        rows = torch.arange(height, device=x.device).view(1, 1, -1, 1)
        columns = torch.arange(width, device=x.device).view(1, 1, 1, -1)
        outside = ~((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right))
        if not (self.correct_lam or self.minmax):
            return outside, params.lam
        area = (params.bottom - params.top) * (params.right - params.left)
        return outside, 1. - area / (height * width)
