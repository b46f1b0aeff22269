"""What the policies share: drawing parameters by torch's generators, and checking options.

What is drawn for each image or pair are tensors on the images' device, so that nothing waits for it. What CutMix and
mixup draw for a whole batch are NumPy arrays of the host, which needs no value of the GPU, and is faster with so few.
"""
from typing import Any, Optional, Sequence, Union

import numpy as np
import torch
from torch.distributions import Beta

Drawn = Any  # a tensor, or a NumPy array of the host


def check_range(name: str, bounds: Sequence[float], low: float, high: float = float('inf')) -> None:
    """Raise ValueError unless `bounds` are two numbers with low <= min <= max <= high."""
    if not isinstance(bounds, (list, tuple)) or len(bounds) != 2 or not low <= bounds[0] <= bounds[1] <= high:
        raise ValueError(f'{name} must be two numbers with {low:g} <= min <= max <= {high:g}, got {bounds}')


def where_to_draw(count: int, x: torch.Tensor, rows: Optional[int]) -> Optional[torch.device]:
    """Return x's device, or None, the host, where one drawing is for a whole batch of `rows`."""
    return x.device if rows is None or rows == count else None


def draw_beta(alpha: float, count: int, device: Optional[torch.device]) -> Drawn:
    """Draw shares [count] from Beta(alpha, alpha), float32, from the device's own generator."""
    # the host by its name: torch.set_default_device may have made another the default
    concentration = torch.full((), alpha, device=device or 'cpu', dtype=torch.float32)
    lam = Beta(concentration, concentration, validate_args=False).sample((count,))
    return lam.numpy() if device is None else lam


def draw_uniform(bounds: Sequence[float], count: int, device: Optional[torch.device]) -> torch.Tensor:
    """Draw numbers [count] from [min, max), float32."""
    return torch.empty(count, device=device, dtype=torch.float32).uniform_(*bounds)


def draw_integers(low: Union[float, Drawn], high: Drawn, count: int) -> Drawn:
    """Draw `count` integers from [low, high) for each row of `high` [..., 1 or count], float32 without a fraction."""
    on_host = isinstance(high, np.ndarray)
    device = 'cpu' if on_host else high.device
    uniform: Drawn = torch.rand((*high.shape[:-1], count), device=device, dtype=torch.float32)
    uniform = uniform.numpy() if on_host else uniform
    # a number below 1, times a whole one below 2 ** 24, stays below it in float32
    return low + (uniform * (high - low)) // 1


def both_sides(sides: Sequence[int], device: Optional[torch.device]) -> Drawn:
    """Return a height and a width as float32 [2, 1], made on the device: for a copy the host would wait."""
    height, width = sides
    if device is None:
        return np.array([[height], [width]], dtype=np.float32)
    return torch.linspace(height, width, 2, device=device, dtype=torch.float32).unsqueeze(1)


def on_device_of(x: torch.Tensor, drawn: Drawn) -> torch.Tensor:
    """Return what was drawn as it is on x's device, a number of the host [1] made there: for a copy it would wait."""
    if isinstance(drawn, np.ndarray):
        return torch.full((1,), float(drawn[0]), dtype=torch.float32, device=x.device)
    return drawn
