"""ResizeMix: the whole partner, made small, pasted into a box.

Paper: ResizeMix: Mixing Data with Preserved Object Information and True Labels, https://arxiv.org/abs/2012.11101

Boxes are cut at the border, and the partner is resized to what is left of its box, so that all of it is always seen.
Deviations from the authors' release: height and width are not transposed on non-square images, and a box is never
empty.
"""
from dataclasses import dataclass
from typing import Optional, Tuple

import torch

from .base import Policy
from .box import Box, centred_box, outside_mask, outside_share
from .sampling import both_sides, check_alpha, check_range, draw_beta, draw_integers, draw_uniform


@dataclass(frozen=True)
class ResizeMix(Policy):
    """mixed = x outside the box, x' resized into it inside.

    Args:
        alpha: The box's scale is drawn from Beta(alpha, alpha), greater than 0 ...
        scale: ... and, where outside this range (tau in the paper), uniformly from it. A share of the image's side.

    Raises:
        ValueError: If alpha is not greater than 0, or scale not within [0, 1].
    """
    alpha: float = 1.
    scale: Tuple[float, float] = (0.1, 0.8)

    def __post_init__(self):
        check_alpha(self.alpha)
        check_range('scale', self.scale, 0., 1.)

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Box:
        """Draw one box for each of `count` images of x's height and width."""
        low, high = self.scale
        tau = draw_beta(self.alpha, count, x.device)
        tau = torch.where((tau < low) | (tau > high), draw_uniform(self.scale, count, x.device), tau)
        length = both_sides(x.shape[-2:], x.device)
        side = (length * tau).floor().clamp(min=1)
        return centred_box(draw_integers(0, length, count), side, length, 1. - tau.square())

    def mask(self, params: Box, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the mask [count, 1, H, W], False inside the box, and lam [count]."""
        return outside_mask(params, x), outside_share(params, x)

    def paste(self, params: Box, partner: torch.Tensor) -> torch.Tensor:
        """Return the partners [N, C, H, W], each resized to its box by nearest pixels; outside it, pixels are not used.

        Args:
            params: One box, or one for each partner.
            partner: The partners as they are.
        """
        shape = partner.shape
        (top, left), (bottom, right) = params.start.unbind(1), params.end.unbind(1)
        rows = _source(top, bottom, shape[-2]).view(-1, 1, shape[-2], 1).expand(shape)
        columns = _source(left, right, shape[-1]).view(-1, 1, 1, shape[-1]).expand(shape)
        # into tensors of the partner's strides, to keep channels-last
        tall = torch.gather(partner, 2, rows, out=torch.empty_like(partner))
        return torch.gather(tall, 3, columns, out=torch.empty_like(partner))

    def partner_mask(self, mask: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
        """Return 1 - lam for every pixel: the whole partner is visible, at a smaller size."""
        return (1. - lam).view(-1, 1, 1, 1)


def _source(start: torch.Tensor, end: torch.Tensor, length: int) -> torch.Tensor:
    """Return where along one side each pixel of the image [count, length] is taken from, int64."""
    start, end = start.long().view(-1, 1), end.long().view(-1, 1)
    offset = torch.arange(length, device=start.device) - start
    return (offset * length).div(end - start, rounding_mode='floor').clamp(0, length - 1)
