"""Photographed objects with masks, the stamps of Tux Paint, placed on crops of photographs.

The stamps are those of Debian's package tuxpaint-stamps-default (Bill Kendrick and others, GPL-2,
https://tuxpaint.org/stamps), and not part of this repository. Where it is not installed, it is fetched into .stamps by
apt-get and dpkg-deb (160 MB), which needs no root.
"""
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

import numpy as np
from PIL import Image, ImageOps

from ..common.results import ROOT
from .fetch import fetch
from .placed import PlacedImages

PACKAGE = 'tuxpaint-stamps-default'
INSTALLED = Path('/usr/share/tuxpaint/stamps')  # of that package
FOLDER = ROOT / '.stamps'
FETCH = f'apt-get download {PACKAGE} && dpkg-deb -x *.deb .'
OPAQUE = 128  # alpha of 255 from which a pixel belongs to the object

# What a photograph of one object is; the package has drawings, signs and letters too.
DRAWN = {'cartoon', 'symbols', 'roadsigns', 'easter', 'planets'}  # folders of drawings, or nearly so
LEFT_OUT = {'clothes/button', 'seasonal/christmas/Santa'}  # drawings, shaded in as many colours as photographs
LEAST_SIDE = 96  # pixels of the object's longer side
LEAST_COLOURS = 2500  # distinct ones in the object: drawings are flat
LEAST_COLOURED = 0.1  # colours over pixels: large drawings have many colours along their edges
MOST_FILLED = 0.9  # share of the object's box that the object fills: pictures that are cut to a rectangle have no mask
MOST_SOFT = 0.3  # share of visible pixels of alpha below 200: flames and twigs have no clear mask

CLOSE, SCENES = (0.25, 0.5), (0.5, 1.)  # parts of a photograph: close-ups hold few whole things, scenes many
VISIBLE = 16  # pixels of an object that are on its canvas at least, wherever its middle lies


class Stamps(NamedTuple):
    """Photographed objects: colour, not multiplied by alpha, and alpha [h, w, 4] uint8, cut to the object; names."""
    images: List[np.ndarray]
    names: Tuple[str, ...]


def load_stamps(folder: Optional[Path] = None) -> Stamps:
    """Return the photographs among the stamps of a folder (None: Debian's, or .stamps) in the order of their names."""
    if folder is None:
        folder = INSTALLED if INSTALLED.is_dir() else fetch(FOLDER, FETCH, str(INSTALLED.relative_to('/')))
    chosen = {}
    for path in sorted(folder.rglob('*.png')):
        name = path.relative_to(folder).with_suffix('').as_posix()
        if DRAWN & set(name.split('/')) or name in LEFT_OUT or name.endswith('_mirror'):
            continue
        image = _read(path)
        if image is not None and _is_photograph(image):
            chosen.setdefault(image.tobytes(), (image, name))  # some are in two folders
    if not chosen:
        raise FileNotFoundError(f"{folder} must hold the stamps of Debian's package {PACKAGE}, it holds no photograph")
    images, names = zip(*chosen.values())
    return Stamps(list(images), names)


def place_stamps(
        stamps: Stamps, count: int, size: int, seed: int, canvas: int = 224, anywhere: bool = False,
        background: Tuple[float, float] = CLOSE,
) -> PlacedImages:
    """Place photographed objects at random on crops of other photographs, half of them flipped.

    Args:
        stamps: The objects; in random order, each as often as any other or once more.
        count: Number of canvases N.
        size: Longer side of an object in pixels, at most S, or ValueError.
        seed: Seed of everything that is drawn.
        canvas: Height and width S of a canvas in pixels.
        anywhere: An object's middle lies anywhere on the canvas, whose border cuts it; else it is wholly inside.
        background: Range of the side of a background, as a part of its photograph's shorter side.

    Returns:
        The canvases with their masks and labels, the objects' numbers among the stamps; outside its mask a canvas is
        its background, to the last bit.
    """
    if not 1 <= size <= canvas:
        raise ValueError(f'size must be in [1, {canvas}], the side of the canvas, got {size}')
    generator = np.random.default_rng(seed)
    images = _backgrounds(count, canvas, background, generator)
    masks = np.zeros((count, canvas, canvas), dtype=bool)
    labels = generator.permutation(len(stamps.images))[np.arange(count) % len(stamps.images)]
    for image, mask, label in zip(images, masks, labels):
        objekt = _resized(stamps.images[label], size, flip=generator.random() < 0.5)
        _blend(image, mask, objekt, *_position(objekt[..., 3] >= OPAQUE, canvas, anywhere, generator))
    return PlacedImages(images, masks, labels)


def _read(path: Path) -> Optional[np.ndarray]:
    """Return a picture [h, w, 4], cut to its object; None if it is grey, of a palette, or has no object."""
    with Image.open(path) as picture:
        image = np.asarray(picture) if picture.mode == 'RGBA' else np.zeros((1, 1, 4), dtype=np.uint8)
    rows, columns = (np.flatnonzero((image[..., 3] >= OPAQUE).any(axis)) for axis in (1, 0))
    return image[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1] if len(rows) else None


def _is_photograph(image: np.ndarray) -> bool:
    """Return whether a picture that is cut to its object is a photograph of it with a clear mask."""
    alpha = image[..., 3]
    where = alpha >= OPAQUE
    red, green, blue = image[where][:, :3].astype(np.int64).T
    colours = len(np.unique(red << 16 | green << 8 | blue))
    soft = ((alpha > 12) & (alpha < 200)).sum() / (alpha > 12).sum()
    return bool(
        max(where.shape) >= LEAST_SIDE and colours >= max(LEAST_COLOURS, LEAST_COLOURED * where.sum())
        and where.mean() <= MOST_FILLED and soft <= MOST_SOFT)


def _backgrounds(
        count: int, canvas: int, part: Tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Return square crops of photographs [count, canvas, canvas, 3] uint8, of a part of their shorter side."""
    from skimage import data
    from sklearn.datasets import load_sample_images
    photographs = [
        Image.fromarray(image) for image in (
            data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), *load_sample_images().images)]
    result = np.empty((count, canvas, canvas, 3), dtype=np.uint8)
    for i, which in enumerate(generator.integers(0, len(photographs), count)):
        photograph = photographs[which]
        side = round(min(photograph.size) * generator.uniform(*part))
        left, top = (int(generator.integers(0, length - side + 1)) for length in photograph.size)
        box = (left, top, left + side, top + side)
        result[i] = photograph.resize((canvas, canvas), Image.Resampling.BILINEAR, box=box)
    return result


def _resized(image: np.ndarray, size: int, flip: bool) -> np.ndarray:
    """Return an object [h, w, 4] whose longer side is `size`, flipped or not."""
    height, width = (max(round(side * size / max(image.shape[:2])), 1) for side in image.shape[:2])
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)  # weighs colours by alpha
    return np.asarray(ImageOps.mirror(picture) if flip else picture)


def _position(where: np.ndarray, canvas: int, anywhere: bool, generator: np.random.Generator) -> Tuple[int, int]:
    """Return where on the canvas an object's box [h, w] begins: (top, left), below 0 where the border cuts it."""
    if not anywhere:
        return tuple(int(generator.integers(0, canvas - side + 1)) for side in where.shape)
    least = min(VISIBLE, where.sum())
    while True:
        top, left = (int(generator.integers(0, canvas)) - side // 2 for side in where.shape)
        if where[max(-top, 0):canvas - top, max(-left, 0):canvas - left].sum() >= least:
            return top, left


def _blend(image: np.ndarray, mask: np.ndarray, objekt: np.ndarray, top: int, left: int) -> None:
    """Draw an object [h, w, 4] on a canvas [S, S, 3], and where it is on the canvas's mask [S, S], in place."""
    seen = objekt[max(-top, 0):len(mask) - top, max(-left, 0):len(mask) - left]
    window = np.s_[max(top, 0):max(top, 0) + seen.shape[0], max(left, 0):max(left, 0) + seen.shape[1]]
    mask[window] = where = seen[..., 3] >= OPAQUE
    alpha = seen[where][:, 3:] / 255
    image[window][where] = (seen[where][:, :3] * alpha + image[window][where] * (1. - alpha)).round()
