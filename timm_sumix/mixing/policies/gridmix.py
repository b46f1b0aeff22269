"""GridMix: a grid of holes, inside a crop, that show the partner.

Paper: GridMix: Strong regularization through local context mapping, Pattern Recognition 109 (2021),
https://doi.org/10.1016/j.patcog.2020.107594

The grid is that which the SUMix authors' release names: square cells in a random crop, each with a hole in its corner.
Deviations from that release: it returned no partner index; here each image of a batch has its partner in the reversed
batch, and lam is the exact share of pixels kept.
"""
from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

import torch

from .base import Policy
from .sampling import check_alpha, check_range, draw_beta, draw_integers, draw_uniform


class Grid(NamedTuple):
    """Crops, and the sides of their cells and holes, in pixels: six tensors [count], float32."""
    top: torch.Tensor
    bottom: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
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

    Raises:
        ValueError: If an option is out of its range.
    """
    alpha: float = 0.2
    holes: Tuple[int, int] = (2, 6)
    crop_area: Tuple[float, float] = (0.5, 1.)
    crop_aspect: Tuple[float, float] = (0.5, 2.)

    def __post_init__(self):
        check_alpha(self.alpha)
        check_range('holes', self.holes, 1)
        if any(bound != int(bound) for bound in self.holes):
            raise ValueError(f'holes must be whole numbers, got {self.holes}')
        check_range('crop_area', self.crop_area, 1e-6, 1.)
        check_range('crop_aspect', self.crop_aspect, 1e-6)

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Grid:
        """Draw one grid for each of `count` images of x's height and width."""
        height, width = x.shape[-2:]
        lam = draw_beta(self.alpha, count, x.device)
        area = height * width * draw_uniform(self.crop_area, count, x.device)
        aspect = draw_uniform(self.crop_aspect, count, x.device)
        top, bottom = _place((area * aspect).sqrt(), height)
        left, right = _place((area / aspect).sqrt(), width)
        holes = draw_integers(self.holes[0], torch.full_like(lam, self.holes[1] + 1), count)
        cell = ((right - left) / holes).ceil()
        return Grid(top, bottom, left, right, cell, (cell * (1. - lam).sqrt()).round())

    def mask(self, params: Grid, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the mask [count, 1, H, W], False in the holes, and lam [count]."""
        height, width = x.shape[-2:]
        rows = _in_holes(params.top, params.bottom, params, height)
        columns = _in_holes(params.left, params.right, params, width)
        holes = rows.view(-1, 1, height, 1) & columns.view(-1, 1, 1, width)
        return ~holes, 1. - (rows.sum(1) * columns.sum(1)).float() / (height * width)


def _place(side: torch.Tensor, length: int) -> Tuple[torch.Tensor, torch.Tensor]:
    side = side.round().clamp(1, length)
    start = draw_integers(0, length - side + 1, len(side))
    return start, start + side


def _in_holes(start: torch.Tensor, end: torch.Tensor, grid: Grid, length: int) -> torch.Tensor:
    """Return whether each place along one side [count, length] lies in the crop and in a hole's rows or columns."""
    places = torch.arange(length, device=start.device)
    start, end, cell, hole = (value.view(-1, 1) for value in (start, end, grid.cell, grid.hole))
    return (places >= start) & (places < end) & ((places - start) % cell < hole)
