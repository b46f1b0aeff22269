"""Backgrounds without objects: small pieces of other objects, which have their textures, or crops of photographs."""
from typing import Callable, Dict

import numpy as np
import torch
import torch.nn.functional as F


def _pieces(objects: np.ndarray, count: int, canvas: int, generator: np.random.Generator) -> np.ndarray:
    """Return canvases [count, canvas, canvas, 3] in [0, 1], filled with pieces of 4 x 4 pixels, dim and coloured."""
    side = 4
    cells = -(-canvas // side)
    start = max(objects.shape[-1] - side, 0) + 1
    which = generator.integers(0, len(objects), (count, cells, cells))
    rows, columns = generator.integers(0, start, (2, count, cells, cells))
    steps = np.arange(side)
    pieces = objects[
        which[..., None, None], rows[..., None, None] + steps[:, None], columns[..., None, None] + steps]
    field = pieces.swapaxes(2, 3).reshape(count, cells * side, cells * side)[:, :canvas, :canvas]
    tint = generator.uniform(0.2, 0.5, (count, 1, 1, 3)).astype(np.float32)
    noise = generator.uniform(0., 0.1, (count, canvas, canvas, 1)).astype(np.float32)
    return field[..., None] * tint + noise


def _photographs(objects: np.ndarray, count: int, canvas: int, generator: np.random.Generator) -> np.ndarray:
    """Return canvases [count, canvas, canvas, 3] in [0, 1], random crops of photographs, dimmed as pieces are."""
    from skimage import data
    scale = 4  # a crop of canvas pixels shows a part of the scene, at a quarter of the photograph's resolution
    photographs = [
        F.avg_pool2d(torch.from_numpy(image).permute(2, 0, 1).float() / 255, scale).permute(1, 2, 0).numpy()
        for image in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())]
    usable = [image for image in photographs if min(image.shape[:2]) >= canvas]
    if not usable:
        raise ValueError(f'canvas must be at most {max(min(p.shape[:2]) for p in photographs)} with photographs')
    result = np.empty((count, canvas, canvas, 3), dtype=np.float32)
    for i, which in enumerate(generator.integers(0, len(usable), count)):
        image = usable[which]
        top, left = (generator.integers(0, side - canvas + 1) for side in image.shape[:2])
        result[i] = image[top:top + canvas, left:left + canvas]
    return result * generator.uniform(0.4, 0.9, (count, 1, 1, 1)).astype(np.float32)


# name: (objects [M, h, w], count, side of a canvas, generator) -> canvases
CLUTTERS: Dict[str, Callable[..., np.ndarray]] = {'pieces': _pieces, 'photographs': _photographs}
