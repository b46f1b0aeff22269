"""GridMix: a grid of holes, inside a crop, that show the partner.

Paper: GridMix: Strong regularization through local context mapping, Pattern Recognition 109 (2021),
https://doi.org/10.1016/j.patcog.2020.107594

The grid is that of the SUMix authors' release: square cells in a random crop, each with a hole in its corner.
Deviations from it: partners are those in the reversed batch (it returned none), and lam is the exact share kept.
"""
from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

import torch

from .base import Policy
from .sampling import both_sides, draw_beta, draw_integers, draw_uniform


class Grid(NamedTuple):
    """Corners of crops [count, 2], the last excluded, and sides of their cells and holes [count], pixels in float32."""
    start: torch.Tensor
    end: torch.Tensor
    cell: torch.Tensor
    hole: torch.Tensor


@dataclass(frozen=True)
class GridMix(Policy):
    """mixed = x' in the holes, x elsewhere.

    Args:
        alpha: The share of a cell that is no hole is drawn from Beta(alpha, alpha), greater than 0.
        holes: Least and greatest number of cells along the crop's width, 1 or greater.
        crop_area: Range of the crop's area, as a share of the image's, in (0, 1].
        crop_aspect: Range of the crop's height over its width, greater than 0.
    """
    alpha: float = 0.2
    holes: Tuple[int, int] = (2, 6)
    crop_area: Tuple[float, float] = (0.5, 1.)
    crop_aspect: Tuple[float, float] = (0.5, 2.)
    limits = {'holes': (1, float('inf')), 'crop_area': (1e-6, 1.), 'crop_aspect': (1e-6, float('inf'))}

    def __post_init__(self):
        super().__post_init__()
        if any(bound != int(bound) for bound in self.holes):
            raise ValueError(f'holes must be whole numbers, got {self.holes}')

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Grid:
        lam, length = draw_beta(self.alpha, count, x.device), both_sides(x.shape[-2:], x.device)
        area = length.prod() * draw_uniform(self.crop_area, count, x.device)
        aspect = draw_uniform(self.crop_aspect, count, x.device)
        side = torch.stack([area * aspect, area / aspect]).sqrt().round().clamp(min=1).minimum(length)
        start = draw_integers(0, length - side + 1, count)
        holes = draw_integers(self.holes[0], torch.full_like(lam, self.holes[1] + 1), count)
        cell = (side[1] / holes).ceil()
        return Grid(start.T, (start + side).T, cell, (cell * (1. - lam).sqrt()).round())

    def mask(self, params: Grid, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        height, width = x.shape[-2:]
        places = torch.arange(max(height, width), device=x.device)
        start, end, cell, hole = (value.view(len(value), -1, 1) for value in params)
        in_holes = (places >= start) & (places < end) & ((places - start) % cell < hole)  # [count, 2, length]
        holes = in_holes[:, :1, :height, None] & in_holes[:, 1:, None, :width]
        return ~holes, 1. - in_holes.sum(2).prod(1).float() / (height * width)
