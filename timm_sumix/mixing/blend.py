"""Applying what was drawn: one mask and one blend for all policies that share a batch."""
from typing import Any, NamedTuple, Optional, Tuple

import torch

from .draws import Draws


class Blended(NamedTuple):
    """Mixed images [N, C, H, W], share of each first image [N], and the masks as MixedTarget describes them."""
    mixed: torch.Tensor
    lam: torch.Tensor
    mask: torch.Tensor
    partner_mask: Optional[torch.Tensor]


def blend(draws: Draws, x: torch.Tensor, in_pairs: bool) -> Blended:
    """Mix x [N, C, H, W] with its reverse.

    Args:
        draws: What was drawn.
        x: Images, left untouched.
        in_pairs: Whether there is one drawing for each pair of images, rather than one for all or for each image.
    """
    by_slices = _blend_by_slices(draws, x, in_pairs)
    mask, lam = _combine(draws, x, in_pairs)
    if by_slices is None:
        partner = _pasted(draws, x, in_pairs)
        mixed = (
            torch.where(mask, x, partner, out=partner) if mask.dtype == torch.bool
            else torch.lerp(partner, x, mask, out=partner))
    else:
        mixed = by_slices
    lam = lam.expand(len(x))
    return Blended(mixed, lam, mask, _partner_mask(draws, mask, lam, in_pairs))


def _blend_by_slices(draws: Draws, x: torch.Tensor, in_pairs: bool) -> Optional[torch.Tensor]:
    """Return the mixed images made in the policy's own way, which a CPU does faster; None if there is none."""
    policy, params, _ = draws.parts[0]
    if len(draws.parts) > 1 or draws.active is not None or x.device.type != 'cpu':
        return None
    return policy.mix(_both_ways(params, len(x)) if in_pairs else params, x)


def _both_ways(params: Any, count: int) -> Any:
    """Return params [ceil(count / 2), ...] of pairs for all `count` images: a partner has its image's."""
    if isinstance(params, tuple):
        return type(params)(*(_both_ways(part, count) for part in params))
    return torch.cat([params, params[:count // 2].flip(0)])


def _combine(draws: Draws, x: torch.Tensor, in_pairs: bool) -> Tuple[torch.Tensor, torch.Tensor]:
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
    return (_both_ways(mask, len(x)), _both_ways(lam, len(x))) if in_pairs else (mask, lam)


def _pasted(draws: Draws, x: torch.Tensor, in_pairs: bool) -> torch.Tensor:
    """Return a copy of the partners, changed where the policy that an image ends up with changes them."""
    partner = x.flip(0)
    result = partner
    for policy, params, chosen in draws.parts:
        pasted = policy.paste(_both_ways(params, len(x)) if in_pairs else params, partner)
        if chosen is None:
            result = pasted
        elif pasted is not result:
            chosen = _both_ways(chosen, len(x)) if in_pairs else chosen
            result = torch.where(chosen.view(-1, 1, 1, 1), pasted, result)
    return result


def _partner_mask(draws: Draws, mask: torch.Tensor, lam: torch.Tensor, in_pairs: bool) -> Optional[torch.Tensor]:
    """Return how much of each of the partner's pixels is visible, None where that is 1 - mask for all images."""
    masks = [policy.partner_mask(mask, lam) for policy, *_ in draws.parts]
    if all(part is None for part in masks):
        return None
    result = 1. - mask.float()
    for own, (_, _, chosen) in zip(masks, draws.parts):
        own = 1. - mask.float() if own is None else own
        if chosen is None:
            result = own
        else:
            chosen = _both_ways(chosen, len(lam)) if in_pairs else chosen
            result = torch.where(chosen.view(-1, 1, 1, 1), own, result)
    return result
