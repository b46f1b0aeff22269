"""SmoothMix: a round blob of the partner with a soft, Gaussian edge.

Paper: SmoothMix: A Simple Yet Effective Data Augmentation to Train Robust Classifiers, CVPR Workshops 2020,
https://openaccess.thecvf.com/content_CVPRW_2020/html/w45/Lee_SmoothMix_A_Simple_Yet_Effective_Data_Augmentation_to_Train_Robust_CVPRW_2020_paper.html

Unlike in the SUMix authors' release, where the blob's share labelled the first image, lam is the first image's share.
"""  # noqa: E501 (the address)
from dataclasses import dataclass
from typing import Optional, Tuple

import torch

from .base import Policy
from .sampling import both_sides, draw_integers, draw_uniform


@dataclass(frozen=True)
class SmoothMix(Policy):
    """mixed = (1 - g) * x + g * x', where g = exp(-distance^2 / (2 sigma^2)) around a random pixel.

    Args:
        sigma: Range of sigma, as a share of the image's height, greater than 0.
    """
    sigma: Tuple[float, float] = (0.25, 0.5)
    limits = {'sigma': (1e-6, float('inf'))}

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return rows and columns of the blobs' centres [count, 2], and their widths [count], in pixels, float32."""
        sigma = x.shape[-2] * draw_uniform(self.sigma, count, x.device)
        return draw_integers(0, both_sides(x.shape[-2:], x.device), count).T, sigma

    def mask(self, params: Tuple[torch.Tensor, torch.Tensor], x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        (centre, sigma), (height, width) = params, x.shape[-2:]
        distance = torch.arange(max(height, width), device=x.device) - centre[..., None]  # [count, 2, length]
        gauss = torch.exp(-distance.square() / (2. * sigma.square().view(-1, 1, 1)))
        mask = (1. - gauss[:, :1, :height, None] * gauss[:, 1:, None, :width]).to(x.dtype)
        return mask, mask.float().mean(dim=(1, 2, 3))
