"""SmoothMix: a round blob of the partner with a soft, Gaussian edge.

Paper: SmoothMix: A Simple Yet Effective Data Augmentation to Train Robust Classifiers, CVPR Workshops 2020,
https://openaccess.thecvf.com/content_CVPRW_2020/html/w45/Lee_SmoothMix_A_Simple_Yet_Effective_Data_Augmentation_to_Train_Robust_CVPRW_2020_paper.html

Deviation from the SUMix authors' release: there lam was the blob's share and labelled the first image with it; here it
is the first image's.
"""  # noqa: E501 (the address)
from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

import torch

from .base import Policy
from .sampling import both_sides, check_range, draw_integers, draw_uniform


class Blob(NamedTuple):
    """Centres (row and column) and widths of blobs, in pixels: three tensors [count], float32."""
    row: torch.Tensor
    column: torch.Tensor
    sigma: torch.Tensor


@dataclass(frozen=True)
class SmoothMix(Policy):
    """mixed = (1 - g) * x + g * x', where g = exp(-distance^2 / (2 sigma^2)) around a random pixel.

    Args:
        sigma: Range of sigma, as a share of the image's height, greater than 0.

    Raises:
        ValueError: If sigma is not greater than 0.
    """
    sigma: Tuple[float, float] = (0.25, 0.5)

    def __post_init__(self):
        check_range('sigma', self.sigma, 1e-6)

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Blob:
        """Draw one blob for each of `count` images of x's height and width."""
        height, width = x.shape[-2:]
        sigma = height * draw_uniform(self.sigma, count, x.device)
        row, column = draw_integers(0, both_sides((height, width), x.device), count)
        return Blob(row, column, sigma)

    def mask(self, params: Blob, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the mask 1 - g [count, 1, H, W], in x's dtype, and its mean as lam [count]."""
        height, width = x.shape[-2:]
        rows = _gauss(params.row, params.sigma, height).view(-1, 1, height, 1)
        columns = _gauss(params.column, params.sigma, width).view(-1, 1, 1, width)
        mask = (1. - rows * columns).to(x.dtype)
        return mask, mask.float().mean(dim=(1, 2, 3))


def _gauss(centre: torch.Tensor, sigma: torch.Tensor, length: int) -> torch.Tensor:
    distance = torch.arange(length, device=centre.device) - centre.view(-1, 1)
    return torch.exp(-distance.square() / (2. * sigma.square().view(-1, 1)))
