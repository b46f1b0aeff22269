"""FMix: regions of random shape, cut from low-frequency noise.

Paper: FMix: Enhancing Mixed Sample Data Augmentation, https://arxiv.org/abs/2002.12047

Deviations from the authors' release: noise of the image's own size and shape, and one mask for each image in 'elem'
mode; the number of pixels kept is lam's, rounded to the nearest.
"""
from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

import torch

from .base import Policy
from .sampling import check_alpha, draw_beta


class Field(NamedTuple):
    """Rank of each pixel [count, H, W] by the noise, 0 for the highest, and the share [count] that is kept."""
    rank: torch.Tensor
    lam: torch.Tensor


@dataclass(frozen=True)
class FMix(Policy):
    """mixed = x where the noise is highest, x' elsewhere.

    Args:
        alpha: The share kept is drawn from Beta(alpha, alpha), greater than 0.
        decay: The noise's amplitude falls as 1 / frequency^decay, 0 or greater.
        max_soft: Share of pixels on either side of the edge, along the order of the noise, over which the mask goes
            linearly from 1 to 0, in [0, 0.5]; never more than lam or 1 - lam.

    Raises:
        ValueError: If an option is out of its range.
    """
    alpha: float = 0.2
    decay: float = 3.
    max_soft: float = 0.

    def __post_init__(self):
        check_alpha(self.alpha)
        if not 0. <= self.decay < float('inf'):
            raise ValueError(f'decay must be 0 or greater, got {self.decay}')
        if not 0. <= self.max_soft <= 0.5:
            raise ValueError(f'max_soft must be in [0, 0.5], got {self.max_soft}')

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Field:
        """Draw noise of x's height and width, and a share, for each of `count` images."""
        lam = draw_beta(self.alpha, count, x.device)
        return Field(rank_pixels(low_frequency_noise(count, (x.shape[-2], x.shape[-1]), self.decay, x.device)), lam)

    def mask(self, params: Field, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the mask [count, 1, H, W], bool, or in x's dtype where edges are soft, and lam [count]."""
        rank = params.rank[:, None]
        size = rank[0].numel()
        kept = (params.lam * size).round().view(-1, 1, 1, 1)
        if not self.max_soft:
            return rank < kept, kept.view(-1) / size
        share = torch.minimum(params.lam, 1. - params.lam).clamp(max=self.max_soft)
        soft = (size * share).floor().view(-1, 1, 1, 1)
        ramp = (kept + soft - rank - 0.5) / (2. * soft).clamp(min=1.)
        mask = torch.where(soft > 0, ramp.clamp(0., 1.), (rank < kept).float()).to(x.dtype)
        return mask, mask.float().mean((1, 2, 3))


def rank_pixels(noise: torch.Tensor) -> torch.Tensor:
    """Return the rank of each pixel in its field [count, H, W], int64, 0 for the highest value."""
    order = noise.flatten(1).argsort(dim=1, descending=True)
    rank = torch.arange(order.shape[1], device=noise.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, rank).view(noise.shape)


def low_frequency_noise(count: int, size: Tuple[int, int], decay: float, device: torch.device) -> torch.Tensor:
    """Return Gaussian noise [count, H, W], float32, whose amplitude falls as 1 / frequency^decay.

    Args:
        count: Number of fields.
        size: Height and width in pixels.
        decay: Power of the fall, 0 or greater.
        device: Where to make them.
    """
    height, width = size
    rows = torch.fft.fftfreq(height, device=device, dtype=torch.float32).view(-1, 1)
    columns = torch.fft.rfftfreq(width, device=device, dtype=torch.float32)
    # the constant part has frequency 0, and is given the lowest other one
    frequency = torch.hypot(rows, columns).clamp(min=1. / max(height, width))
    spectrum = torch.randn(count, height, width // 2 + 1, dtype=torch.complex64, device=device) / frequency ** decay
    return torch.fft.irfft2(spectrum, s=(height, width))
