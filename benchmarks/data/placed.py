"""Real objects placed at random on cluttered canvases, so that the visible fraction of each object is known."""
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .objects import Objects


class PlacedImages(NamedTuple):
    """Canvases: images [N, S, S, 3] uint8, masks [N, S, S] bool (True where the object is), labels [N] int64."""
    images: np.ndarray
    masks: np.ndarray
    labels: np.ndarray


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


def _pieces(objects: np.ndarray, count: int, canvas: int, generator: np.random.Generator) -> np.ndarray:
    """Return canvases [count, canvas, canvas, 3] in [0, 1], filled with pieces of 4 x 4 pixels, dim and coloured."""
    side = 4
    cells = -(-canvas // side)
    start = max(objects.shape[-1] - side, 0) + 1
    which = generator.integers(0, len(objects), (count, cells, cells))
    rows, columns = generator.integers(0, start, (2, count, cells, cells))
    steps = np.arange(side)
    pieces = objects[which[..., None, None], rows[..., None, None] + steps[:, None], columns[..., None, None] + steps]
    field = pieces.swapaxes(2, 3).reshape(count, cells * side, cells * side)[:, :canvas, :canvas]
    tint = generator.uniform(0.2, 0.5, (count, 1, 1, 3)).astype(np.float32)
    noise = generator.uniform(0., 0.1, (count, canvas, canvas, 1)).astype(np.float32)
    return field[..., None] * tint + noise


def place(objects: Objects, count: int, canvas: int = 32, size: int = 14, seed: int = 0) -> PlacedImages:
    """Place objects at random on `count` cluttered canvases; ValueError if they do not fit.

    The first `count` objects are used, again from the start where there are fewer. Sides of a canvas and of an object
    are in pixels. The seed is that of positions, colours and clutter.
    """
    if not 1 <= size <= canvas:
        raise ValueError(f'size must be in [1, {canvas}], the side of the canvas, got {size}')
    generator = np.random.default_rng(seed)
    index = np.arange(count) % len(objects.labels)
    resized = F.interpolate(
        torch.from_numpy(objects.images)[:, None], size=(size, size), mode='bilinear', antialias=True)[:, 0].numpy()
    images = _pieces(resized, count, canvas, generator)
    masks = np.zeros((count, canvas, canvas), dtype=bool)
    tops, lefts = generator.integers(0, canvas - size + 1, (2, count))
    colours = generator.uniform(0.6, 1., (count, 3)).astype(np.float32)
    for i, (top, left) in enumerate(zip(tops, lefts)):
        pixels = resized[index[i]]
        window = np.s_[top:top + size, left:left + size]
        masks[i][window] = where = pixels > 0.2
        images[i][window][where] = pixels[where, None] * colours[i]
    return PlacedImages((images * 255).round().astype(np.uint8), masks, objects.labels[index])


def plain(objects: Objects, count: int) -> PlacedImages:
    """Return the first `count` objects as they are, in three equal channels."""
    images = (objects.images[:count] * 255).round().astype(np.uint8)
    return PlacedImages(np.repeat(images[..., None], 3, axis=-1), images > 0, objects.labels[:count])
