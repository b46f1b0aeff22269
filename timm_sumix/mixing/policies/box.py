"""Boxes of pixels, one for each drawing: what CutMix, SaliencyMix and ResizeMix paste into."""
from typing import List, NamedTuple, Optional, Tuple

import numpy as np
import torch

from .base import Policy
from .sampling import Drawn, on_device_of


class Box(NamedTuple):
    """Boxes in pixels, float32 without a fraction: top and left [count, 2], bottom and right, excluded [count, 2]."""
    start: Drawn
    end: Drawn


def centred_box(centre: Drawn, side: Drawn, length: Drawn) -> Box:
    """Return boxes of sides [2, count] around centres [2, count], cut at the borders of images of sides [2, 1]."""
    start = centre - side // 2
    return Box(start.clip(min=0).T, (start + side).clip(max=length).T)


class BoxPolicy(Policy):
    """A policy that draws boxes: the first image stays outside, and inside is the partner."""

    def mask(self, params: Box, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        height, width = x.shape[-2:]
        share = on_device_of(x, 1. - (params.end - params.start).prod(1) / (height * width))
        if isinstance(params.start, np.ndarray):
            mask = torch.ones(1, 1, height, width, dtype=torch.bool, device=x.device)
            (top, left, bottom, right), = _edges(params)
            mask[..., top:bottom, left:right].fill_(False)
            return mask, share
        places = torch.arange(max(height, width), device=x.device)
        outside = (places < params.start[..., None]) | (places >= params.end[..., None])  # [count, 2, length]
        return outside[:, :1, :height, None] | outside[:, 1:, None, :width], share

    def mix(self, params: Box, x: torch.Tensor) -> Optional[torch.Tensor]:
        """Copy slices, which on a GPU is faster than a mask only if the host drew one box for all."""
        if x.device.type != 'cpu' and not isinstance(params.start, np.ndarray):
            return None
        mixed, edges = x.clone(), _edges(params)
        if len(edges) == 1:
            (top, left, bottom, right), = edges
            mixed[:, :, top:bottom, left:right].copy_(x[:, :, top:bottom, left:right].flip(0))
            return mixed
        for i, (top, left, bottom, right) in enumerate(edges):
            mixed[i, :, top:bottom, left:right] = x[-1 - i, :, top:bottom, left:right]
        return mixed


def _edges(box: Box) -> List[List[int]]:
    """Return top, left, bottom and right of each box."""
    return [[int(edge) for edge in (*start, *end)] for start, end in zip(box.start.tolist(), box.end.tolist())]
