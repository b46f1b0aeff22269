"""Applying what was drawn: one mask and one blend for all policies that share a batch."""
from typing import Sequence, Tuple

import torch

from ..region import Mixing
from .draws import Draws


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
