"""Real photographs from a folder of one's own: CIFAR-100, Tiny-ImageNet-200 with its boxes, Caltech-101.

Nothing is downloaded. Each set is found in the folder, or at most two levels below it, as it is published.

CIFAR: Learning Multiple Layers of Features from Tiny Images, Krizhevsky, 2009
Tiny-ImageNet: Tiny ImageNet Visual Recognition Challenge, Le and Yang, 2015, of ImageNet's pictures
Caltech-101: Learning Generative Visual Models from Few Training Examples, CVPR Workshops 2004
"""
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np
from PIL import Image, ImageDraw
from torchvision.datasets import CIFAR100

from .placed import ImageSet, PlacedImages, to_image_set

CIFAR_FILES, CIFAR_CLASSES = 'cifar-100-python', 100
Box = Tuple[int, int, int, int]  # left, top, right, bottom, in pixels, the last two included


class Picture(NamedTuple):
    """One picture: a file or its pixels [H, W, 3], its class, and its object's box where that is published."""
    image: Union[Path, np.ndarray]
    label: int
    box: Optional[Box] = None


Pictures = List[Picture]


class Source(NamedTuple):
    """One data set."""
    is_here: Callable[[Path], bool]  # whether a folder holds it
    # folder -> its training pictures and its test pictures; None for the latter where it has no such split
    read: Callable[[Path], Tuple[Pictures, Optional[Pictures]]]
    origin: str  # where it comes from, for the error


def _folders(folder: Path) -> List[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _files(folder: Path) -> List[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ('.png', '.jpg', '.jpeg'))


def _by_class(folders: List[Path]) -> Pictures:
    return [Picture(path, label) for label, folder in enumerate(folders) for path in _files(folder)]


def _read_tiny(folder: Path) -> Tuple[Pictures, Optional[Pictures]]:
    names = (folder / 'wnids.txt').read_text().split()
    labels = {name: label for label, name in enumerate(sorted(names))}

    def rows(path: Path) -> List[List[str]]:
        return [line.split('\t') for line in path.read_text().splitlines()]

    def box(cells: List[str]) -> Box:
        return tuple(int(cell) for cell in cells[-4:])  # type: ignore[return-value]

    train = [
        Picture(folder / 'train' / name / 'images' / row[0], label, box(row))
        for name, label in labels.items() for row in rows(folder / 'train' / name / f'{name}_boxes.txt')]
    test = [
        Picture(folder / 'val' / 'images' / row[0], labels[row[1]], box(row))
        for row in rows(folder / 'val' / 'val_annotations.txt')]
    return train, test


def _read_caltech(folder: Path) -> Tuple[Pictures, Optional[Pictures]]:
    return _by_class([path for path in _folders(folder) if path.name != 'BACKGROUND_Google']), None


def _is_cifar(folder: Path) -> bool:
    return (folder / CIFAR_FILES).is_dir() or all(
        len(_folders(folder / part)) == CIFAR_CLASSES for part in ('train', 'test'))


def _read_cifar(folder: Path) -> Tuple[Pictures, Optional[Pictures]]:
    if not (folder / CIFAR_FILES).is_dir():
        return _by_class(_folders(folder / 'train')), _by_class(_folders(folder / 'test'))
    splits = (CIFAR100(str(folder), train=train) for train in (True, False))
    train, test = ([Picture(*row) for row in zip(split.data, split.targets)] for split in splits)
    return train, test


SOURCES: Dict[str, Source] = {
    'cifar100': Source(
        _is_cifar, _read_cifar,
        f'https://www.cs.toronto.edu/~kriz/cifar.html ({CIFAR_FILES}, or train/ and test/ by class)'),
    'tiny-imagenet': Source(
        lambda folder: (folder / 'wnids.txt').is_file() and (folder / 'val' / 'val_annotations.txt').is_file(),
        _read_tiny, 'http://cs231n.stanford.edu/tiny-imagenet-200.zip (tiny-imagenet-200)'),
    'caltech101': Source(
        lambda folder: folder.name == '101_ObjectCategories' and folder.is_dir(), _read_caltech,
        'https://data.caltech.edu/records/mzrjq-6wc02 (101_ObjectCategories)'),
}


def find_source(name: str, data_dir: Optional[Union[str, Path]]) -> Path:
    """Return the folder that holds one of SOURCES: data_dir, or one at most two levels below it; else an error."""
    if data_dir is not None:
        below = _folders(Path(data_dir))
        for folder in [Path(data_dir), *below, *(inner for path in below for inner in _folders(path))]:
            if SOURCES[name].is_here(folder):
                return folder
    raise FileNotFoundError(f'--data-dir must hold {name}, got {data_dir}: {SOURCES[name].origin}')


def load_photographs(
        name: str, data_dir: Optional[Union[str, Path]], images: int, test_images: int, size: int, stored: int,
) -> Tuple[ImageSet, ImageSet]:
    """Return training and test pictures, as many of each class, drawn once and for all seeds alike.

    Args:
        name: One of SOURCES.
        data_dir: See find_source.
        images: Number of training pictures; ValueError if a class has too few.
        test_images: Number of test pictures at most; where the set has no split, of those that are left.
        size: Height and width of test pictures: the middle of one whose shorter side is `stored` pixels.
        stored: Height and width of training pictures, of which training takes crops.

    Returns:
        Both, with masks of the objects' boxes, all False where none are published.
    """
    train, test = SOURCES[name].read(find_source(name, data_dir))
    classes = 1 + max(picture.label for picture in train)
    count, test_count = images // classes, -(-test_images // classes)
    shuffled = _shuffled(train, classes)
    if min(map(len, shuffled)) < count:
        raise ValueError(f'{name} must have {count} pictures of each class, got {min(map(len, shuffled))}')
    left = [own[count:] for own in shuffled] if test is None else _shuffled(test, classes)
    return (
        _load([picture for own in shuffled for picture in own[:count]], stored, stored),
        _load([picture for own in left for picture in own[:test_count]], size, stored))


def _shuffled(pictures: Pictures, classes: int) -> List[Pictures]:
    """Return the pictures of each class, in an order that depends on nothing else."""
    generator, by_class = np.random.default_rng(0), [[] for _ in range(classes)]
    for picture in pictures:
        by_class[picture.label].append(picture)
    return [[own[i] for i in generator.permutation(len(own))] for own in by_class]


def _load(pictures: Pictures, size: int, stored: int) -> ImageSet:
    images = np.empty((len(pictures), size, size, 3), np.uint8)
    masks = np.zeros((len(pictures), size, size), bool)
    for i, (pixels, _, box) in enumerate(pictures):
        image = Image.open(pixels).convert('RGB') if isinstance(pixels, Path) else Image.fromarray(pixels)
        images[i] = _resize(image, size, stored, Image.Resampling.BICUBIC)
        if box is not None:
            mask = Image.new('L', image.size)
            ImageDraw.Draw(mask).rectangle(box, fill=1)
            masks[i] = _resize(mask, size, stored, Image.Resampling.NEAREST)
    return to_image_set(PlacedImages(images, masks, np.array([picture.label for picture in pictures], np.int64)))


def _resize(image: Image.Image, size: int, stored: int, resample: Image.Resampling) -> np.ndarray:
    """Return the middle [size, size] of a picture whose shorter side is resized to `stored` pixels."""
    scale = stored / min(image.size)
    width, height = (max(stored, round(side * scale)) for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), resample)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))
