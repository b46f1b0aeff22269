"""Boxes of pixels, one for each drawing: what CutMix, SaliencyMix and ResizeMix paste into."""
from typing import List, NamedTuple, Optional

import numpy as np
import torch

from .sampling import Drawn, on_device_of


class Box(NamedTuple):
    """Boxes in pixels, and the drawn share of what lies outside, float32 without a fraction but for the last.

    Args:
        start: Top and left of each box [count, 2].
        end: Bottom and right [count, 2], excluded.
        lam: The drawn share [count].
    """
    start: Drawn
    end: Drawn
    lam: Drawn


def centred_box(centre: Drawn, side: Drawn, length: Drawn, lam: Drawn) -> Box:
    """Return boxes around their centres, cut at the borders.

    Args:
        centre: Row and column of each centre [2, count].
        side: Height and width of each box [2, count].
        length: Height and width of the images [2, 1].
        lam: The drawn share of what lies outside [count].
    """
    start = centre - side // 2
    return Box(start.clip(min=0).T, (start + side).clip(max=length).T, lam)


def outside_mask(box: Box, x: torch.Tensor) -> torch.Tensor:
    """Return the mask [count, 1, H, W] on x's device, False inside the box."""
    height, width = x.shape[-2:]
    if _of_host(box):
        mask = torch.ones(1, 1, height, width, dtype=torch.bool, device=x.device)
        (top, left, bottom, right), = _edges(box)
        mask[..., top:bottom, left:right].fill_(False)
        return mask
    places = torch.arange(max(height, width), device=x.device)
    outside = (places < box.start[..., None]) | (places >= box.end[..., None])  # [count, 2, length]
    return outside[:, :1, :height, None] | outside[:, 1:, None, :width]


def outside_share(box: Box, x: torch.Tensor) -> torch.Tensor:
    """Return the exact share of pixels outside the box [count], on x's device."""
    return on_device_of(x, 1. - (box.end - box.start).prod(1) / (x.shape[-2] * x.shape[-1]))


def paste_boxes(box: Box, x: torch.Tensor) -> Optional[torch.Tensor]:
    """Return x [N, C, H, W] with each box copied from the reversed batch by slices, where that is faster than a mask.

    Args:
        box: One box for the batch, or one for each image.
        x: Images, left untouched.

    Returns:
        The mixed images; None on a GPU unless the host drew one box for all.
    """
    if x.device.type != 'cpu' and not _of_host(box):
        return None
    mixed, edges = x.clone(), _edges(box)
    if len(edges) == 1:
        (top, left, bottom, right), = edges
        mixed[:, :, top:bottom, left:right].copy_(x[:, :, top:bottom, left:right].flip(0))
        return mixed
    for i, (top, left, bottom, right) in enumerate(edges):
        mixed[i, :, top:bottom, left:right] = x[-1 - i, :, top:bottom, left:right]
    return mixed


def _of_host(box: Box) -> bool:
    return isinstance(box.start, np.ndarray)


def _edges(box: Box) -> List[List[int]]:
    """Return top, left, bottom and right of each box."""
    return [[int(edge) for edge in (*start, *end)] for start, end in zip(box.start.tolist(), box.end.tolist())]
