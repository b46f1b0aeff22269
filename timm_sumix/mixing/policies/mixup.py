"""MixUp: a weighted sum of two images.

Paper: mixup: Beyond Empirical Risk Minimization, ICLR 2018, https://arxiv.org/abs/1710.09412
"""
from dataclasses import dataclass
from typing import ClassVar, Optional, Tuple

import torch

from .base import Policy
from .sampling import Drawn, draw_beta, on_device_of, where_to_draw


@dataclass(frozen=True)
class MixUp(Policy):
    """mixed = lam * x + (1 - lam) * x'.

    Args:
        alpha: lam is drawn from Beta(alpha, alpha), greater than 0.
    """
    alpha: float = 1.
    exact_lam: ClassVar[bool] = True

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Drawn:
        return draw_beta(self.alpha, count, where_to_draw(count, x, rows))

    def mask(self, params: Drawn, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        weight = on_device_of(x, params).to(x.dtype)  # lam is exactly what the images are weighed by
        return weight.view(-1, 1, 1, 1), weight.float()
