"""ResizeMix: the whole partner, made small, pasted into a box.

Paper: ResizeMix: Mixing Data with Preserved Object Information and True Labels, https://arxiv.org/abs/2012.11101

Boxes are cut at the border, and the partner is resized to what is left of its box, so that all of it is always seen.
Unlike in the authors' release, height and width are not transposed on non-square images, and a box is never empty.
"""
from dataclasses import dataclass
from typing import Optional, Tuple

import torch

from .box import Box, BoxPolicy, centred_box
from .sampling import both_sides, draw_beta, draw_integers, draw_uniform


@dataclass(frozen=True)
class ResizeMix(BoxPolicy):
    """mixed = x outside the box, x' resized into it inside.

    Args:
        alpha: The box's scale is drawn from Beta(alpha, alpha), greater than 0 ...
        scale: ... and, where outside this range (tau in the paper), uniformly from it. A share of the image's side.
    """
    alpha: float = 1.
    scale: Tuple[float, float] = (0.1, 0.8)
    limits = {'scale': (0., 1.)}

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Box:
        low, high = self.scale
        tau = draw_beta(self.alpha, count, x.device)
        tau = torch.where((tau < low) | (tau > high), draw_uniform(self.scale, count, x.device), tau)
        length = both_sides(x.shape[-2:], x.device)
        side = (length * tau).floor().clamp(min=1)
        return centred_box(draw_integers(0, length, count), side, length)

    def mix(self, params: Box, x: torch.Tensor) -> None:
        return None  # slices would show the partner as it is

    def paste(self, params: Box, partner: torch.Tensor) -> torch.Tensor:
        """Return the partners, each resized to its box by nearest pixels; outside it, pixels are not used."""
        shape, start, end = partner.shape, params.start[..., None], params.end[..., None]
        length, places = both_sides(shape[-2:], partner.device), torch.arange(max(shape[-2:]), device=partner.device)
        # whole numbers below 2 ** 24, which float32 divides right
        source = ((places - start) * length).div(end - start, rounding_mode='floor').clamp(min=0).minimum(length - 1)
        rows = source[:, :1, :shape[-2], None].long().expand(shape)
        columns = source[:, 1:, None, :shape[-1]].long().expand(shape)
        # into tensors of the partner's strides, to keep channels-last
        tall = torch.gather(partner, 2, rows, out=torch.empty_like(partner))
        return torch.gather(tall, 3, columns, out=torch.empty_like(partner))

    def partner_mask(self, mask: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
        return (1. - lam).view(-1, 1, 1, 1)  # all of the partner is visible, at a smaller size
