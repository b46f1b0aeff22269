"""Applying what was drawn: one mask and one blend for all policies that share a batch."""
from typing import List, NamedTuple, Optional, Tuple

import torch

from .draws import Draws


class Blended(NamedTuple):
    """Mixed images [N, C, H, W], share of each first image [N], and what else MixedTarget says of how it was mixed."""
    mixed: torch.Tensor
    lam: torch.Tensor
    mask: torch.Tensor
    partner_mask: Optional[torch.Tensor]
    exact: Optional[torch.Tensor]


def blend(draws: Draws, x: torch.Tensor) -> Blended:
    """Mix x [N, C, H, W] with its reverse by what was drawn; x is left untouched."""
    mixed = _blend_by_slices(draws, x)
    mask, lam = _combine(draws, x)
    if mixed is None:
        partner = _pasted(draws, x)
        mixed = (
            torch.where(mask, x, partner, out=partner) if mask.dtype == torch.bool
            else torch.lerp(partner, x, mask, out=partner))
    lam = lam.expand(len(x))
    return Blended(mixed, lam, mask, _partner_mask(draws, mask, lam), _exact(draws, lam))


def _blend_by_slices(draws: Draws, x: torch.Tensor) -> Optional[torch.Tensor]:
    """Return the mixed images made in the policy's own, faster way; None if there is none."""
    policy, params, _ = draws.parts[0]
    if len(draws.parts) > 1 or draws.active is not None:
        return None
    return policy.mix(params, x)


def _combine(draws: Draws, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return one mask and its lam for all that was drawn."""
    mask, lam = draws.parts[0].policy.mask(draws.parts[0].params, x)
    for policy, params, chosen in draws.parts[1:]:
        assert chosen is not None  # only the first part is for everywhere
        policy_mask, policy_lam = policy.mask(params, x)
        if policy_mask.dtype != mask.dtype:
            policy_mask, mask = policy_mask.to(x.dtype), mask.to(x.dtype)
        mask = torch.where(chosen.view(-1, 1, 1, 1), policy_mask, mask)
        lam = torch.where(chosen, policy_lam, lam)
    if draws.active is not None:
        inactive = ~draws.active
        mask = mask.masked_fill(inactive.view(-1, 1, 1, 1), 1)
        lam = lam.masked_fill(inactive, 1.)
    return mask, lam


def _pasted(draws: Draws, x: torch.Tensor) -> torch.Tensor:
    """Return a copy of the partners, changed where the policy that an image ends up with changes them."""
    partner = x.flip(0)
    return _of_last(draws, [policy.paste(params, partner) for policy, params, _ in draws.parts])


def _partner_mask(draws: Draws, mask: torch.Tensor, lam: torch.Tensor) -> Optional[torch.Tensor]:
    """Return how much of each of the partner's pixels is visible, None where that is 1 - mask for all images."""
    masks = [policy.partner_mask(mask, lam) for policy, *_ in draws.parts]
    if all(own is None for own in masks):
        return None
    rest = 1. - mask.float()
    result = _of_last(draws, [rest if own is None else own for own in masks])
    return result if draws.active is None else torch.where(draws.active.view(-1, 1, 1, 1), result, rest)


def _exact(draws: Draws, lam: torch.Tensor) -> Optional[torch.Tensor]:
    """Return whose lam is right as it is [N] bool, None if nobody's."""
    if not any(policy.exact_lam for policy, *_ in draws.parts):
        return None
    return _of_last(draws, [torch.full_like(lam, policy.exact_lam, dtype=torch.bool) for policy, *_ in draws.parts])


def _of_last(draws: Draws, results: List[torch.Tensor]) -> torch.Tensor:
    """Return for each image [N, ...] the result of the last policy that was chosen for it."""
    final = results[0]
    for result, (_, _, chosen) in zip(results[1:], draws.parts[1:]):
        assert chosen is not None
        if result is not final:
            final = torch.where(chosen.view(-1, *[1] * (final.ndim - 1)), result, final)
    return final
