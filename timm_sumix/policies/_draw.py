"""What the policies share: drawing shares, and checking options."""
import torch
from torch.distributions import Beta


def check_alpha(alpha: float) -> None:
    """Raise ValueError unless alpha is a positive number."""
    if not 0. < alpha < float('inf'):
        raise ValueError(f'alpha must be greater than 0, got {alpha}')


def draw_beta(alpha: float, count: int, device: torch.device) -> torch.Tensor:
    """Draw shares [count] from Beta(alpha, alpha), float32, from the device's own generator."""
    concentration = torch.full((), alpha, device=device, dtype=torch.float32)
    return Beta(concentration, concentration, validate_args=False).sample((count,))


def draw_integers(low: float, high: torch.Tensor) -> torch.Tensor:
    """Draw one integer from [low, high) for each entry of `high` [count], as float32 without a fraction."""
    return low + (torch.rand_like(high) * (high - low)).floor()
