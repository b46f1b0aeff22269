"""Boxes of pixels, one for each drawing: what CutMix, SaliencyMix and ResizeMix paste into."""
from typing import NamedTuple, Tuple

import torch


class Box(NamedTuple):
    """Boxes in pixels, ends excluded, and the drawn share of what lies outside: five tensors [count], float32."""
    top: torch.Tensor
    bottom: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    lam: torch.Tensor


def centred_side(centre: torch.Tensor, side: torch.Tensor, length: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return start and end [count] of sides around their centres, cut at the borders 0 and `length`."""
    start = centre - (side / 2).floor()
    return start.clamp(min=0), (start + side).clamp(max=length)


def outside_mask(box: Box, x: torch.Tensor) -> torch.Tensor:
    """Return the mask [count, 1, H, W], False inside the box."""
    height, width = x.shape[-2:]
    top, bottom, left, right = (edge.view(-1, 1, 1, 1) for edge in box[:4])
    rows = torch.arange(height, device=x.device).view(1, 1, -1, 1)
    columns = torch.arange(width, device=x.device).view(1, 1, 1, -1)
    return ((rows < top) | (rows >= bottom)) | ((columns < left) | (columns >= right))


def outside_share(box: Box, x: torch.Tensor) -> torch.Tensor:
    """Return the exact share of pixels outside the box [count]."""
    area = (box.bottom - box.top) * (box.right - box.left)
    return 1. - area / (x.shape[-2] * x.shape[-1])


def paste_boxes(box: Box, x: torch.Tensor) -> torch.Tensor:
    """Return x [N, C, H, W] with each box copied from the reversed batch: on a CPU slices are faster than a mask.

    Args:
        box: One box for the batch, or one for each image, with edges on the CPU.
        x: Images, left untouched.
    """
    mixed = x.clone()
    edges = torch.stack(box[:4], dim=1).int().tolist()
    if len(edges) == 1:
        (top, bottom, left, right), = edges
        reverse = torch.arange(len(x) - 1, -1, -1)
        mixed[:, :, top:bottom, left:right].index_copy_(0, reverse, x[:, :, top:bottom, left:right])
        return mixed
    for i, (top, bottom, left, right) in enumerate(edges):
        mixed[i, :, top:bottom, left:right] = x[-1 - i, :, top:bottom, left:right]
    return mixed
