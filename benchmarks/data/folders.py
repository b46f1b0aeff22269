"""Image folders of objects, for train scripts that read images from disk."""
import os
import shutil
from pathlib import Path
from typing import List, Tuple

import numpy as np
from PIL import Image

from .drawn import place_seen_drawings
from .objects import DEBIAN_FOLDER, load_objects
from .placed import PlacedImages, place, plain


def write_image_folder(placed: PlacedImages, class_names: Tuple[str, ...], root: Path) -> None:
    """Write the canvases as PNG files root/<class>/<number>.png, the layout of timm's ImageFolder."""
    digits = len(str(len(class_names) - 1))
    for label, name in enumerate(class_names):
        folder = root / f'{label:0{digits}d}-{name}'  # sorted by label
        folder.mkdir(parents=True, exist_ok=True)
        for i in np.flatnonzero(placed.labels == label):
            Image.fromarray(placed.images[i]).save(folder / f'{i:05d}.png', compress_level=1)


def prepare(table: str, folder: Path, train: int, test: int, classes: int = 10) -> None:
    """Write train/ and validation/ of a table that is made from the benchmark's own data, unless they are there.

    Args:
        table: 'placed_fashion' (objects of 28 pixels on cluttered canvases of 64, seeds 0 and 1, the published split
            kept), 'fashion_mnist', or 'placed_emoji' (drawings of 28 to 44 pixels on crops of photographs of 64).
        folder: Where to write.
        train: Number of training images.
        test: Number of test images.
        classes: Number of classes of 'placed_emoji'.

    Raises:
        FileNotFoundError: If Fashion-MNIST, or the drawings, are not at hand.
    """
    if folder.is_dir():
        return
    class_names, images = (
        place_seen_drawings(classes, (train, test), canvas=64, sizes=(28, 44), seed=0) if table == 'placed_emoji'
        else _fashion(table, train, test))
    temporary = folder.with_name(f'{folder.name}.{os.getpid()}')
    for split, own in zip(('train', 'validation'), images):
        write_image_folder(own, class_names, temporary / split)
    try:
        os.rename(temporary, folder)
    except OSError:  # another runner was faster
        shutil.rmtree(temporary)


def _fashion(table: str, train: int, test: int) -> Tuple[Tuple[str, ...], List[PlacedImages]]:
    _, class_names, *splits = load_objects(DEBIAN_FOLDER)
    return class_names, [
        place(objects, count, canvas=64, size=28, seed=seed) if table == 'placed_fashion' else plain(objects, count)
        for seed, (objects, count) in enumerate(zip(splits, (train, test)))]
