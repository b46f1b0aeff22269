"""A data set whose images come with masks of their objects, which follow timm's training transforms."""
import copy
import threading
from collections import defaultdict
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from PIL import ExifTags, Image
from timm.data import ImageDataset
from torch.utils.data import Dataset
from torchvision.datasets.vision import StandardTransform

from .masked_transform import MaskedTransform

_FEW = 16  # values above 0 of a mask of numbers, most of them below 128; soft edges have more, or are mostly white

_Reads = Dict[int, List[int]]  # by thread: the indices that timm's readers read for the present item


class MaskedDataset(Dataset):
    """Images with masks of their objects: what SUMixMixup needs to label mixed images by what is visible of each.

    The mask goes through the image's transform with the same random draws; see MaskedTransform.

    Args:
        dataset: (PIL image, class) pairs by index, such as one of timm's or torchvision's image folders. If it has a
            transform, its `transform` comes first, for image and mask alike.
        mask: Called with an index; returns a PIL image of the mask in the size of the image (mode '1', or 'L' for
            masks with soft edges, white where the object is), or None where it is not known.
        transform: What timm.data.create_transform(..., is_training=True) returns, whole or in its three parts. None:
            it is set later, as timm.data.create_loader does.

    Raises:
        ValueError: If a mask cannot follow the transform, as MaskedTransform says, or one inside the data set.
    """

    def __init__(
            self,
            dataset: Dataset,
            mask: Callable[[int], Optional[Image.Image]],
            transform: Any = None,
    ):
        self._reads: _Reads = defaultdict(list)
        self.dataset, self._before = _without_transform(dataset)
        self.dataset = _noting_reads(self.dataset, self._reads)
        self.mask = mask
        self.transform = transform

    @property
    def transform(self) -> Any:
        """The transform of the images, as it was given."""
        return self._transform

    @transform.setter
    def transform(self, transform: Any) -> None:
        self._transform = transform
        self._masked = None if transform is None else MaskedTransform(transform, self._before)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Tuple[torch.Tensor, int, torch.Tensor]:
        """Return an image [C, H, W], its class, and its mask [1, H, W] in [0, 1], NaN where none is known.

        Raises:
            ValueError: If there is no transform, or it does not move both alike, or as read() says.
        """
        if self._masked is None:
            raise ValueError('transform must be set before images are read, got None')
        image, label, mask = self.read(index)
        output, moved = self._masked(image, mask)
        return output, label, moved

    def read(self, index: int) -> Tuple[Image.Image, int, Optional[Image.Image]]:
        """Return an image, its class, and its mask, mode 'L', or None, as they are before the transform.

        Where timm's ImageDataset cannot read an image and goes on to the next, the mask is that one's too.

        Raises:
            ValueError: If an item is no pair of a PIL image and a class, or its mask does not fit: of another size or
                mode, of numbers rather than 0 and 255, of an image that EXIF turns, or of one image among several.
        """
        reads = self._reads[threading.get_ident()]
        reads.clear()
        item = self.dataset[index]
        if not isinstance(item, (tuple, list)) or len(item) != 2 or not isinstance(item[0], Image.Image):
            got = [type(part).__name__ for part in item] if isinstance(item, (tuple, list)) else type(item).__name__
            raise ValueError(f'items must be pairs of a PIL image and a class, got {got} as item {index}')
        image, label = item
        skips = type(self.dataset).__getitem__ is ImageDataset.__getitem__  # and takes the next one
        mask = self.mask(reads[-1] if skips and reads else index)
        if mask is None:
            return image, label, None
        if len(reads) > 1 and not skips:
            raise ValueError(
                f'item {index} must be one image to have a mask, and {type(self.dataset).__name__} read {reads}: '
                'several make one, or a damaged file was followed by the next')
        _check_mask(mask, image, getattr(mask, 'filename', '') or str(index))
        return image, label, mask.convert('L')


def _check_mask(mask: Any, image: Image.Image, name: str) -> None:
    for part, each in (('image', image), ('mask', mask)):
        orientation = _orientation(each)
        if orientation != 1:
            raise ValueError(
                f'mask {name} and its image must be stored upright, got EXIF orientation {orientation} in the {part}: '
                'rewrite the image upright, or make the mask of the stored pixels and remove the orientation')
    mode, size = getattr(mask, 'mode', type(mask).__name__), getattr(mask, 'size', None)
    if mode not in ('1', 'L') or size != image.size:
        raise ValueError(
            f"mask {name} must be a PIL image of mode '1' or 'L', of the size of its image, {image.size}, white where "
            f'the object is, got mode {mode!r}, {size}')
    counts = mask.histogram() if mode == 'L' else []
    values = [value for value, count in enumerate(counts) if count and value]
    if 0 < len(values) <= _FEW and sum(counts[1:128]) > sum(counts[128:]):
        raise ValueError(
            f'mask {name} must be white (255) where the object is and black (0) elsewhere, got {values} beside 0, '
            'mostly below 128, as numbers of classes or regions are')


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF, by which no program turns an image
        return 1
    return orientation if orientation in range(2, 9) else 1


class _NotingReader:
    """One of timm's readers, which notes the indices that are read."""

    def __init__(self, reader: Any, reads: _Reads):
        self.reader = reader
        self.reads = reads

    def __getitem__(self, index: int) -> Any:
        self.reads[threading.get_ident()].append(index)
        return self.reader[index]

    def __len__(self) -> int:
        return len(self.reader)

    def __getattr__(self, name: str) -> Any:
        if name == 'reader':  # a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self.reader, name)


def _without_transform(dataset: Any) -> Tuple[Any, Any]:
    """Return a copy of a data set without its `transform`, and that."""
    dataset, attributes = copy.copy(dataset), getattr(dataset, '__dict__', {})
    transform = attributes.get('transform')
    if transform:
        dataset.transform = None
        if 'transforms' in attributes:  # torchvision's, which calls this one
            dataset.transforms = StandardTransform(None, dataset.target_transform)
    return dataset, transform


def _noting_reads(dataset: Any, reads: _Reads) -> Any:
    """Return a data set like this one, whose readers, at whatever depth, note in `reads` what they read.

    Raises:
        ValueError: If one of the data sets has a transform of images.
    """
    noting = copy.copy(dataset)
    for name, value in getattr(dataset, '__dict__', {}).items():
        if name.endswith(('transform', 'transforms')) and 'target' not in name and getattr(value, 'transform', value):
            raise ValueError(
                f'the data set must have no {name} that moves images alone, got that of {type(dataset).__name__}: give '
                'it to MaskedDataset')
        if name == 'reader':
            noting.reader = _NotingReader(value, reads)
        elif isinstance(value, Dataset):  # as of torch's Subset
            noting.__dict__[name] = _noting_reads(value, reads)
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Dataset):  # of its ConcatDataset
            noting.__dict__[name] = [_noting_reads(each, reads) for each in value]
    return noting
