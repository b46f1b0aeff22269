"""What is drawn for one batch, before any pixel is touched; and one mask and one blend for all that was drawn."""
from itertools import accumulate
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch.utils._pytree import tree_map_only

from ..region import Mixing
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


def blend(draws: Draws, x: torch.Tensor, in_pairs: bool) -> Tuple[torch.Tensor, torch.Tensor, Mixing]:
    """Return x [N, C, H, W], left untouched, mixed with its reverse, the share of each first image [N], and how."""
    parts, active = draws
    mixed = parts[0].policy.mix(parts[0].params, x) if len(parts) == 1 and active is None else None
    masks, lams = zip(*(policy.mask(params, x) for policy, params, _ in parts))
    if len({mask.dtype for mask in masks}) > 1:
        masks = tuple(mask.to(x.dtype) for mask in masks)
    mask, lam = _of_last(draws, masks), _of_last(draws, lams)
    if active is not None:
        mask = mask.masked_fill(~active.view(-1, 1, 1, 1), 1)
        lam = lam.masked_fill(~active, 1.)
    if mixed is None:
        reverse = x.flip(0)
        partner = _of_last(draws, [policy.paste(params, reverse) for policy, params, _ in parts])
        mixed = (
            torch.where(mask, x, partner, out=partner) if mask.dtype == torch.bool
            else torch.lerp(partner, x, mask, out=partner))
    lam = lam.expand(len(x))
    partner_mask = exact = None
    own_masks = [policy.partner_mask(mask, lam) for policy, *_ in parts]
    if any(own is not None for own in own_masks):
        rest = 1. - mask.float()
        partner_mask = _of_last(draws, [rest if own is None else own for own in own_masks])
        partner_mask = partner_mask if active is None else torch.where(active.view(-1, 1, 1, 1), partner_mask, rest)
    if any(policy.exact_lam for policy, *_ in parts):
        exact = _of_last(draws, [torch.full_like(lam, policy.exact_lam, dtype=torch.bool) for policy, *_ in parts])
    complementary = partner_mask is None and (in_pairs or len(mask) == 1)
    return mixed, lam, Mixing(len(x), mask, partner_mask, complementary=complementary, exact=exact)


def _of_last(draws: Draws, results: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return for each image [N, ...] the result of the last policy that was chosen for it."""
    final = results[0]
    for result, (_, _, chosen) in zip(results[1:], draws.parts[1:]):
        assert chosen is not None  # only the first part is for everywhere
        if result is not final:
            final = torch.where(chosen.view(-1, *[1] * (final.ndim - 1)), result, final)
    return final
