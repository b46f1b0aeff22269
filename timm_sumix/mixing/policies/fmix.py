"""FMix: regions of random shape, cut from low-frequency noise.

Paper: FMix: Enhancing Mixed Sample Data Augmentation, https://arxiv.org/abs/2002.12047

Unlike the authors' release: noise of the image's shape, a mask for each image in 'elem', lam rounded to whole pixels.
"""
from dataclasses import dataclass
from typing import Optional, Tuple

import torch

from .base import Policy
from .sampling import draw_beta


@dataclass(frozen=True)
class FMix(Policy):
    """mixed = x where the noise is highest, x' elsewhere.

    Args:
        alpha: The share kept is drawn from Beta(alpha, alpha), greater than 0.
        decay: The noise's amplitude falls as 1 / frequency^decay, 0 or greater.
    """
    alpha: float = 0.2
    decay: float = 3.

    def __post_init__(self):
        super().__post_init__()
        if not 0. <= self.decay < float('inf'):
            raise ValueError(f'decay must be 0 or greater, got {self.decay}')

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the rank of each pixel by its noise [count, H, W], 0 for the highest, and the share kept [count]."""
        lam = draw_beta(self.alpha, count, x.device)
        noise = low_frequency_noise(count, (x.shape[-2], x.shape[-1]), self.decay, x.device)
        order = noise.flatten(1).argsort(dim=1, descending=True)
        rank = torch.arange(order.shape[1], device=x.device).expand_as(order)
        return torch.empty_like(order).scatter_(1, order, rank).view(noise.shape), lam

    def mask(self, params: Tuple[torch.Tensor, torch.Tensor], x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        rank, lam = params
        kept = (lam * rank[0].numel()).round()
        return rank[:, None] < kept.view(-1, 1, 1, 1), kept / rank[0].numel()


def low_frequency_noise(count: int, size: Tuple[int, int], decay: float, device: torch.device) -> torch.Tensor:
    """Return Gaussian noise [count, H, W], float32, whose amplitude falls as 1 / frequency^decay."""
    height, width = size
    rows = torch.fft.fftfreq(height, device=device, dtype=torch.float32).view(-1, 1)
    columns = torch.fft.rfftfreq(width, device=device, dtype=torch.float32)
    # the constant part has frequency 0, and is given the lowest other one
    frequency = torch.hypot(rows, columns).clamp(min=1. / max(height, width))
    spectrum = torch.randn(count, height, width // 2 + 1, dtype=torch.complex64, device=device) / frequency ** decay
    return torch.fft.irfft2(spectrum, s=(height, width))
