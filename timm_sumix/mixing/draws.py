"""What is drawn for one batch, before any pixel is touched, so that a test can inject its own."""
from typing import Any, List, NamedTuple, Optional, Sequence

import torch

from .policies import Policy


class Part(NamedTuple):
    """What one policy drew.

    Args:
        policy: The policy.
        params: Its parameters, one row for the whole batch or one for each image.
        chosen: Bool tensor [N], True where this policy replaces earlier ones; None for everywhere.
    """
    policy: Policy
    params: Any
    chosen: Optional[torch.Tensor] = None


class Draws(NamedTuple):
    """What was drawn for one batch.

    Args:
        parts: One for each policy that takes part.
        active: Bool tensor [N], True where an image is mixed at all; None for everywhere.
    """
    parts: List[Part]
    active: Optional[torch.Tensor] = None


def draw_for_batch(policies: Sequence[Policy], probs: Sequence[float], prob: float, x: torch.Tensor) -> Optional[Draws]:
    """Draw once for the whole batch x [N, C, H, W]; None if it is not to be mixed."""
    if prob < 1. and torch.rand((), device='cpu', dtype=torch.float32).item() >= prob:
        return None
    weights = torch.tensor(probs, device='cpu', dtype=torch.float32)
    policy = policies[int(torch.multinomial(weights, 1)) if len(policies) > 1 else 0]
    return Draws([Part(policy, policy.draw(1, x, len(x)))])


def draw_for_each(
        policies: Sequence[Policy], probs: Sequence[float], prob: float, x: torch.Tensor, in_pairs: bool) -> Draws:
    """Draw for each image of x [N, C, H, W] or each pair, on its device, without asking it for a value."""
    count = (len(x) + 1) // 2 if in_pairs else len(x)
    parts = [Part(policy, policy.draw(count, x, count)) for policy in policies]
    if len(parts) > 1:
        uniform, start = torch.rand(count, device=x.device, dtype=torch.float32), 0.
        for i, share in enumerate(probs):
            parts[i] = parts[i]._replace(chosen=uniform >= start)
            start += share
    active = None if prob == 1. else torch.rand(count, device=x.device, dtype=torch.float32) < prob
    draws = Draws(parts, active)
    return _for_partners(draws, len(x) // 2) if in_pairs else draws


def _for_partners(drawn: Any, count: int) -> Any:
    """Return what was drawn, each tensor with its first `count` rows added in reverse."""
    if isinstance(drawn, torch.Tensor):
        return torch.cat([drawn, drawn[:count].flip(0)])
    if isinstance(drawn, list):
        return [_for_partners(part, count) for part in drawn]
    if isinstance(drawn, tuple):
        return getattr(drawn, '_make', tuple)(_for_partners(part, count) for part in drawn)  # of a NamedTuple, or plain
    return drawn
