"""Coloured drawings placed at random on crops of photographs: turned, flipped, shaded, and of several sizes."""
from typing import Iterator, Tuple

import numpy as np
import torch
import torch.nn.functional as F

from .placed import CLUTTERS, PlacedImages

OPAQUE = 0.2  # alpha from which a pixel belongs to the object; below, it is the background's
TURN = 25  # degrees, to either side


def place_drawings(
        drawings: np.ndarray, labels: np.ndarray, count: int, canvas: int = 32, sizes: Tuple[int, int] = (12, 20),
        seed: int = 0,
) -> PlacedImages:
    """Place drawings at random on crops of photographs.

    Args:
        drawings: Colour, not multiplied by alpha, and alpha [M, 64, 64, 4], uint8; used in turn, from the start again.
        labels: Their classes [M].
        count: Number of canvases N.
        canvas: Height and width S of a canvas in pixels.
        sizes: Least and greatest height and width of an object in pixels, at most S.
        seed: Seed of everything that is drawn.

    Returns:
        The canvases with their masks and labels; outside its mask a canvas is its background, to the last bit.

    Raises:
        ValueError: If sizes are out of range.
    """
    if not 1 <= sizes[0] <= sizes[1] <= canvas:
        raise ValueError(f'sizes must be (least, greatest) in [1, {canvas}], the side of the canvas, got {sizes}')
    generator = np.random.default_rng(seed)
    images = (CLUTTERS['photographs'](drawings, count, canvas, generator) * 255).round().astype(np.uint8)
    masks = np.zeros((count, canvas, canvas), dtype=bool)
    index = in_turn(count, len(drawings))
    side = generator.integers(sizes[0], sizes[1] + 1, count)
    for i, (size, objekt) in enumerate(zip(side, _turned(drawings, index, generator))):
        top, left = generator.integers(0, canvas - size + 1, 2)
        window = np.s_[top:top + size, left:left + size]
        colour, alpha = _resized(objekt, size)
        masks[i][window] = where = alpha >= OPAQUE
        own = images[i][window]
        blended = colour * 255 + (1. - alpha[..., None]) * own
        own[where] = blended[where].round().clip(0, 255)
    return PlacedImages(images, masks, labels[index])


def in_turn(count: int, drawings: int) -> np.ndarray:
    """Return which of so many drawings is on each of `count` canvases."""
    return np.arange(count) % drawings


def _turned(drawings: np.ndarray, index: np.ndarray, generator: np.random.Generator) -> Iterator[torch.Tensor]:
    """Yield each drawing [4, 64, 64] in [0, 1], colour multiplied by alpha: shaded, half of them flipped, turned."""
    angles = np.deg2rad(generator.uniform(-TURN, TURN, len(index)))
    flips = generator.choice((-1., 1.), len(index))
    shades = generator.uniform(0.6, 1., (len(index), 3)).astype(np.float32)
    for which, angle, flip, shade in zip(index, angles, flips, shades):
        objekt = torch.from_numpy(drawings[which].astype(np.float32) / 255).permute(2, 0, 1)
        objekt[:3] *= objekt[3] * torch.from_numpy(shade).view(3, 1, 1)
        cos, sin = np.cos(angle), np.sin(angle)
        turn = torch.tensor([[[flip * cos, -sin, 0.], [flip * sin, cos, 0.]]], dtype=torch.float32)
        grid = F.affine_grid(turn, [1, 4, *objekt.shape[1:]], align_corners=False)
        yield F.grid_sample(objekt[None], grid, align_corners=False)[0]


def _resized(objekt: torch.Tensor, size: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return colour [size, size, 3], multiplied by alpha, and alpha [size, size]."""
    small = F.interpolate(objekt[None], size=(size, size), mode='bilinear', antialias=True)[0].permute(1, 2, 0).numpy()
    return small[..., :3], small[..., 3]
