"""Image folders for the tables whose data needs no download: Fashion-MNIST, as it is or placed on larger canvases."""
import os
import shutil
from pathlib import Path

import numpy as np

from .placed import DEBIAN_FOLDER, Objects, PlacedImages, load_objects, place, write_image_folder


def prepare(table: str, folder: Path, train: int, test: int) -> None:
    """Write train/ and validation/ image folders, unless they are there; the published split is kept.

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


def plain(objects: Objects, count: int) -> PlacedImages:
    """Return the first `count` objects as they are, in three equal channels."""
    images = (objects.images[:count] * 255).round().astype(np.uint8)
    return PlacedImages(np.repeat(images[..., None], 3, axis=-1), images > 0, objects.labels[:count])
