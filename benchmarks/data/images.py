"""Images as models see them."""
from typing import NamedTuple

import torch

from .placed import PlacedImages


class ImageSet(NamedTuple):
    """Images as models see them [N, 3, S, S], masks of their objects [N, S, S] bool, labels [N]."""
    images: torch.Tensor
    masks: torch.Tensor
    labels: torch.Tensor


def to_image_set(placed: PlacedImages) -> ImageSet:
    """Return placed images as tensors, scaled to [-1, 1]."""
    images = torch.from_numpy(placed.images).permute(0, 3, 1, 2).float() / 127.5 - 1.
    return ImageSet(
        images.contiguous(memory_format=torch.channels_last), torch.from_numpy(placed.masks),
        torch.from_numpy(placed.labels))
