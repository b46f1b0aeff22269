"""The objects that are placed: Fashion-MNIST's, or scikit-learn's handwritten digits where its files are not at hand.

Fashion-MNIST: https://arxiv.org/abs/1708.07747
"""
import gzip
from pathlib import Path
from typing import NamedTuple, Tuple, Union

import numpy as np

DEBIAN_FOLDER = '/usr/share/datasets/fashion-mnist'  # of Debian's package dataset-fashion-mnist
FILES = [f'{part}-{kind}-ubyte.gz' for part in ('train', 't10k') for kind in ('images-idx3', 'labels-idx1')]
FASHION_CLASSES = ('T-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle-boot')


class Objects(NamedTuple):
    """Objects on black: images [N, H, W] float32 in [0, 1], and labels [N] int64."""
    images: np.ndarray
    labels: np.ndarray


def load_objects(data_dir: Union[str, Path, None] = None) -> Tuple[str, Tuple[str, ...], Objects, Objects]:
    """Return the data's name, the classes' names, training objects and test objects.

    They are Fashion-MNIST's, from the four files as published (gzipped idx) in data_dir or in Debian's folder, else
    scikit-learn's digits. Raises FileNotFoundError if data_dir is given and lacks one of the files.
    """
    folder = Path(data_dir or DEBIAN_FOLDER)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing and data_dir is None:
        return load_digits_objects()
    if missing:
        raise FileNotFoundError(
            f"{folder} must hold the files of Fashion-MNIST, {FILES}; it lacks {missing} (they are in Debian's "
            'package dataset-fashion-mnist)')
    arrays = [_read_idx(folder / name) for name in FILES]
    train, test = (
        Objects(images.astype(np.float32) / 255, labels.astype(np.int64))
        for images, labels in (arrays[:2], arrays[2:]))
    return 'Fashion-MNIST', FASHION_CLASSES, train, test


def _read_idx(path: Path) -> np.ndarray:
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, '>i4', data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def load_digits_objects() -> Tuple[str, Tuple[str, ...], Objects, Objects]:
    """Return scikit-learn's handwritten digits, the last fifth of them for testing, as load_objects does."""
    from sklearn.datasets import load_digits
    data = load_digits()
    images, labels = (data.images / 16).astype(np.float32), data.target.astype(np.int64)
    end = len(labels) * 4 // 5
    names = tuple(str(digit) for digit in range(10))
    return 'digits', names, Objects(images[:end], labels[:end]), Objects(images[end:], labels[end:])
