"""What is drawn for one batch, before any pixel is touched, so that a test can inject its own."""
from itertools import accumulate
from typing import Any, List, NamedTuple, Optional, Sequence

import torch
from torch.utils._pytree import tree_map_only

from .policies import Policy


class Part(NamedTuple):
    """What one policy drew, and where it replaces earlier ones."""
    policy: Policy
    params: Any  # one row for the whole batch or one for each image
    chosen: Optional[torch.Tensor] = None  # bool [N]; None: everywhere


class Draws(NamedTuple):
    """What was drawn for one batch by each policy that takes part, and where an image is mixed at all."""
    parts: List[Part]
    active: Optional[torch.Tensor] = None  # bool [N]; None: everywhere


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
        uniform = torch.rand(count, device=x.device, dtype=torch.float32)
        starts = accumulate(probs, initial=0.)
        parts = [part._replace(chosen=uniform >= start) for part, start in zip(parts, starts)]
    draws = Draws(parts, None if prob == 1. else torch.rand(count, device=x.device, dtype=torch.float32) < prob)
    if not in_pairs:
        return draws
    # the second half of the batch has the rows of the first, in reverse
    return tree_map_only(torch.Tensor, lambda rows: torch.cat([rows, rows[:len(x) // 2].flip(0)]), draws)
