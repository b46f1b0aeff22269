"""Unmixing: the feature maps of the unmixed images, from those of the mixed ones.

The two mixed images of a pair (i, j) are complementary: one shows image i where the mask m is, the other the rest of
it. So both maps together hold, place by place, nearly what one pass over the unmixed image would have given, but for
what the features at a place have seen of the other image:

    F_i = m * f(mix_i) + (1 - m) * f(mix_j)

Puzzle-CAM (https://arxiv.org/abs/2101.11253) and Complementary Patch (ICCV 2021) merge maps of patches likewise.
"""
from typing import Optional, Tuple

import torch

from ..region import Mixing

_TINY = 1e-6


def unmix(maps: torch.Tensor, mixing: Mixing) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
    """Return the unmixed images' maps from the maps by place [N, h, w, D] of the mixed images.

    And return which fraction of each cell of theirs the mixed images show [N, h, w], in [0, 1], None for all. What
    neither shows is taken for the mean of what is shown.
    """
    first, second = mixing.visible_fraction((maps.shape[1], maps.shape[2]))
    own = first.to(maps.dtype).unsqueeze(-1)
    if mixing.complementary:
        return torch.lerp(mixing.as_partner(maps), maps, own), None
    in_place = mixing.partner_in_place((maps.shape[1], maps.shape[2]))
    if in_place is not None:
        second = second * in_place.view(-1, 1, 1)
    rest = torch.minimum(mixing.as_partner(second), 1. - first)  # what both show is read from the image's own mixture
    seen = first + rest
    seen_maps = own * maps + rest.to(maps.dtype).unsqueeze(-1) * mixing.as_partner(maps)
    size = seen.sum((1, 2)).clamp(min=_TINY).view(-1, 1, 1, 1)
    mean = (seen_maps.float().sum((1, 2), keepdim=True) / size).to(maps.dtype)  # in half precision the sum may overflow
    return seen_maps + (1. - seen).to(maps.dtype).unsqueeze(-1) * mean, seen


def unmix_by_area(tokens: torch.Tensor, mixing: Mixing) -> torch.Tensor:
    """Return the unmixed images' tokens from those of the mixed ones [N, ...], which have no place, as a class token.

    They are a map of one cell, which shows each image by its area: lam T(mix_i) + (1 - lam) T(mix_j) if the two masks
    are complementary.
    """
    return unmix(tokens.flatten(1)[:, None, None], mixing)[0].view_as(tokens)
