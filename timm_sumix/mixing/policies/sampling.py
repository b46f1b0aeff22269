"""What the policies share: drawing parameters, and checking options."""
from typing import Optional, Sequence

import torch
from torch.distributions import Beta


def check_alpha(alpha: float) -> None:
    """Raise ValueError unless alpha is a positive number."""
    if not 0. < alpha < float('inf'):
        raise ValueError(f'alpha must be greater than 0, got {alpha}')


def check_range(name: str, bounds: Sequence[float], low: float, high: float = float('inf')) -> None:
    """Raise ValueError unless `bounds` are two numbers with low <= min <= max <= high."""
    if not isinstance(bounds, (list, tuple)) or len(bounds) != 2 or not low <= bounds[0] <= bounds[1] <= high:
        raise ValueError(f'{name} must be two numbers with {low:g} <= min <= max <= {high:g}, got {bounds}')


def draw_beta(alpha: float, count: int, device: torch.device) -> torch.Tensor:
    """Draw shares [count] from Beta(alpha, alpha), float32, from the device's own generator."""
    concentration = torch.full((), alpha, device=device, dtype=torch.float32)
    return Beta(concentration, concentration, validate_args=False).sample((count,))


def draw_uniform(bounds: Sequence[float], count: int, device: Optional[torch.device]) -> torch.Tensor:
    """Draw numbers [count] from [min, max), float32."""
    return torch.empty(count, device=device).uniform_(*bounds)


def draw_integers(low: float, high: torch.Tensor) -> torch.Tensor:
    """Draw one integer from [low, high) for each entry of `high` [count], as float32 without a fraction."""
    return low + (torch.rand_like(high) * (high - low)).floor().clamp(max=high - low - 1)
