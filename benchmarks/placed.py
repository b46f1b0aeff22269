"""Real objects placed at random on cluttered canvases, so that the visible share of each object is known.

Objects are Fashion-MNIST's (https://arxiv.org/abs/1708.07747) or, where its files are not at hand, scikit-learn's
handwritten digits. Clutter is made of small pieces of other objects: it has the objects' textures, but shows none.
"""
import gzip
from pathlib import Path
from typing import NamedTuple, Tuple, Union

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

DEBIAN_FOLDER = '/usr/share/datasets/fashion-mnist'  # of Debian's package dataset-fashion-mnist
FILES = (
    'train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz',
    't10k-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz')
FASHION_CLASSES = (
    'T-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle-boot')


class Objects(NamedTuple):
    """Objects on black: images [N, H, W] float32 in [0, 1], and labels [N] int64."""
    images: np.ndarray
    labels: np.ndarray


class PlacedImages(NamedTuple):
    """Canvases: images [N, S, S, 3] uint8, masks [N, S, S] bool (True where the object is), labels [N] int64."""
    images: np.ndarray
    masks: np.ndarray
    labels: np.ndarray


def load_objects(data_dir: Union[str, Path, None] = None) -> Tuple[str, Tuple[str, ...], Objects, Objects]:
    """Load Fashion-MNIST from data_dir or Debian's folder, else scikit-learn's digits.

    Args:
        data_dir: Folder of the four files as published (gzipped idx). None: Debian's folder, if it is there.

    Returns:
        Name of the data, names of the classes, training objects, test objects.

    Raises:
        FileNotFoundError: If data_dir is given and lacks one of the files.
    """
    folder = Path(data_dir or DEBIAN_FOLDER)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not missing:
        arrays = [_read_idx(folder / name) for name in FILES]
        train, test = (
            Objects(images.astype(np.float32) / 255, labels.astype(np.int64))
            for images, labels in (arrays[:2], arrays[2:]))
        return 'Fashion-MNIST', FASHION_CLASSES, train, test
    if data_dir is not None:
        raise FileNotFoundError(
            f"{folder} must hold the files of Fashion-MNIST, {list(FILES)}; it lacks {missing} (they are in Debian's "
            'package dataset-fashion-mnist)')
    return load_digits_objects()


def _read_idx(path: Path) -> np.ndarray:
    data = gzip.decompress(path.read_bytes())
    dims = data[3]
    shape = np.frombuffer(data, '>i4', dims, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape)


def load_digits_objects() -> Tuple[str, Tuple[str, ...], Objects, Objects]:
    """Return scikit-learn's handwritten digits, the last fifth of them for testing, as load_objects does."""
    from sklearn.datasets import load_digits
    data = load_digits()
    images, labels = (data.images / 16).astype(np.float32), data.target.astype(np.int64)
    end = len(labels) * 4 // 5
    names = tuple(str(digit) for digit in range(10))
    return 'digits', names, Objects(images[:end], labels[:end]), Objects(images[end:], labels[end:])


def place(
        objects: Objects,
        count: int,
        canvas: int = 32,
        size: int = 14,
        seed: int = 0,
        copies: int = 1,
        clutter: str = 'pieces',
) -> PlacedImages:
    """Place objects at random on cluttered canvases.

    Args:
        objects: What to draw from; the first `count` are used, again from the start where there are fewer.
        count: Number of canvases N.
        canvas: Height and width S of a canvas in pixels.
        size: Height and width of an object in pixels, at most S.
        seed: Seed of places, colours and clutter.
        copies: Number of objects on each canvas, all of one class; later ones may hide earlier ones.
        clutter: What the background is made of: 'pieces' of other objects, or crops of scikit-image's 'photographs'.

    Returns:
        The canvases with their masks and labels.

    Raises:
        ValueError: If the object does not fit on the canvas, or an argument is out of range.
    """
    if not 1 <= size <= canvas:
        raise ValueError(f'size must be in [1, {canvas}], the side of the canvas, got {size}')
    if copies < 1:
        raise ValueError(f'copies must be 1 or greater, got {copies}')
    if clutter not in CLUTTERS:
        raise ValueError(f'clutter must be one of {list(CLUTTERS)}, got {clutter!r}')
    generator = np.random.default_rng(seed)
    index = np.arange(count) % len(objects.labels)
    resized = F.interpolate(
        torch.from_numpy(objects.images)[:, None], size=(size, size), mode='bilinear', antialias=True)[:, 0].numpy()
    images = CLUTTERS[clutter](resized, count, canvas, generator)
    masks = np.zeros((count, canvas, canvas), dtype=bool)
    labels, things = objects.labels[index], index
    for copy in range(copies):
        if copy:
            things = _others(objects.labels, labels, generator)
        tops, lefts = generator.integers(0, canvas - size + 1, (2, count))
        colours = generator.uniform(0.6, 1., (count, 3)).astype(np.float32)
        for i, (top, left) in enumerate(zip(tops, lefts)):
            thing = resized[things[i]]
            where = thing > 0.2
            window = np.s_[top:top + size, left:left + size]
            masks[i][window] |= where
            images[i][window][where] = thing[where, None] * colours[i]
    return PlacedImages((images * 255).round().astype(np.uint8), masks, labels)


def _others(classes: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return positions of objects of the wanted labels [N], drawn at random."""
    order = np.argsort(classes, kind='stable')
    starts = np.searchsorted(classes[order], labels)
    ends = np.searchsorted(classes[order], labels, side='right')
    return order[generator.integers(starts, ends)]


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


CLUTTERS = {'pieces': _pieces, 'photographs': _photographs}


def true_lam(
        first: torch.Tensor,
        second: torch.Tensor,
        shown_first: torch.Tensor,
        shown_second: torch.Tensor,
) -> torch.Tensor:
    """Return each first image's true share: what is visible of its object against what is visible of both.

    Args:
        first: Masks of the first images' objects [N, S, S], bool.
        second: Masks of the partners' objects [N, S, S], bool.
        shown_first: How much of each pixel of the first image is shown [N, S, S], in [0, 1].
        shown_second: The same of the partner's pixels.

    Returns:
        visible_a / (visible_a + visible_b) [N], each the visible fraction of the object; NaN where neither is visible.
    """
    a, b = visible(first, shown_first), visible(second, shown_second)
    return a / (a + b)


def visible(masks: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """Return the visible fraction [N] of objects with masks [N, S, S], of whose pixels the share `shown` is seen."""
    return (masks * shown).flatten(1).sum(1) / masks.flatten(1).sum(1).clamp(min=1)


def write_image_folder(placed: PlacedImages, class_names: Tuple[str, ...], root: Path) -> None:
    """Write the canvases as PNG files root/<class>/<number>.png, as timm's ImageFolder data sets lie on disk."""
    for label, name in enumerate(class_names):
        folder = root / f'{label}-{name}'  # sorted by label
        folder.mkdir(parents=True, exist_ok=True)
        for i in np.flatnonzero(placed.labels == label):
            Image.fromarray(placed.images[i]).save(folder / f'{i:05d}.png', compress_level=1)
