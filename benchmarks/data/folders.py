"""Image folders of objects, for train scripts that read images from disk."""
import os
import shutil
from pathlib import Path
from typing import Tuple

import numpy as np
from PIL import Image

from .objects import DEBIAN_FOLDER, load_objects
from .placed import PlacedImages, place, plain


def write_image_folder(placed: PlacedImages, class_names: Tuple[str, ...], root: Path) -> None:
    """Write the canvases as PNG files root/<class>/<number>.png, the layout of timm's ImageFolder."""
    for label, name in enumerate(class_names):
        folder = root / f'{label}-{name}'  # sorted by label
        folder.mkdir(parents=True, exist_ok=True)
        for i in np.flatnonzero(placed.labels == label):
            Image.fromarray(placed.images[i]).save(folder / f'{i:05d}.png', compress_level=1)


def prepare(table: str, folder: Path, train: int, test: int) -> None:
    """Write train/ and validation/ of a table whose data needs no download, unless they are there.

    The published split of Fashion-MNIST is kept.

    Args:
        table: 'placed_fashion' (objects of 28 pixels on cluttered canvases of 64, seeds 0 and 1) or 'fashion_mnist'.
        folder: Where to write.
        train: Number of training images, the first of their split.
        test: Number of test images, the first of theirs.

    Raises:
        FileNotFoundError: If Fashion-MNIST is not at hand.
    """
    if folder.is_dir():
        return
    _, class_names, *splits = load_objects(DEBIAN_FOLDER)
    temporary = folder.with_name(f'{folder.name}.{os.getpid()}')
    for seed, (split, objects, count) in enumerate(zip(('train', 'validation'), splits, (train, test))):
        images = place(objects, count, canvas=64, size=28, seed=seed) if table == 'placed_fashion' else plain(
            objects, count)
        write_image_folder(images, class_names, temporary / split)
    try:
        os.rename(temporary, folder)
    except OSError:  # another runner was faster
        shutil.rmtree(temporary)
