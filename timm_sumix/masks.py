"""A data set whose images come with masks of their objects, which follow timm's training transforms."""
import copy
from typing import Any, Callable, Optional, Tuple

import torch
from PIL import ExifTags, Image
from timm.data import ImageDataset
from torch.utils.data import Dataset
from torchvision.datasets.vision import StandardTransform

from .masked_transform import MaskedTransform

_FEW = 16  # values above 0 of a mask of numbers, most of them below 128; soft edges have more, or are mostly white


class MaskedDataset(Dataset):
    """Images with masks of their objects: what SUMixMixup needs to label mixed images by what is visible of each.

    The mask goes through the image's transform with the same random draws; see MaskedTransform.

    Args:
        dataset: (PIL image, class) pairs by index, such as one of timm's or torchvision's image folders. If it has a
            transform, its `transform` comes first, for image and mask alike. A Subset is taken of the MaskedDataset.
        mask: Called with an index; returns a PIL image of the mask in the size of the image (mode '1', or 'L' for
            masks with soft edges, white where the object is), or None where it is not known.
        transform: As timm.data.create_transform(..., is_training=True) makes it, or its three parts. None: set later.

    ValueError if the data set moves images by more than its `transform`, or takes them from another data set.
    """

    def __init__(self, dataset: Dataset, mask: Callable[[int], Optional[Image.Image]], transform: Any = None):
        self.dataset = dataset
        self.mask = mask
        self.transform = transform
        self._images, self._first = _without_transform(dataset)
        self._is_timms = isinstance(dataset, ImageDataset)
        if self._is_timms:  # returns what its reader returns beside image and class, too
            self._images.reader, self._images.additional_features = _NumberingReader(self._images.reader), ['index']
        self._made: Any = (None, None)  # a transform, and the MaskedTransform made of it

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Tuple[torch.Tensor, int, torch.Tensor]:
        """Return an image [C, H, W], its class, and its mask [1, H, W] in [0, 1], NaN where none is known."""
        if self.transform is None:
            raise ValueError('transform must be set before images are read, got None')
        if self._made[0] is not self.transform:
            self._made = self.transform, MaskedTransform([self._first or [], self.transform])
        image, label, mask = self.read(index)
        output, moved = self._made[1](image, mask)
        return output, label, moved

    def read(self, index: int) -> Tuple[Image.Image, int, Optional[Image.Image]]:
        """Return an image, its class, and its mask, mode 'L', or None, as they are before the transform.

        Where timm's ImageDataset skips an image that it cannot read, the mask is the next one's too. ValueError if an
        item is no pair of a PIL image and a class, or a mask's size, mode or values do not fit, or EXIF turns either.
        """
        item = self._images[index]
        if self._is_timms:
            *item, index = item
        if not isinstance(item, (tuple, list)) or len(item) != 2 or not isinstance(item[0], Image.Image):
            got = [type(part).__name__ for part in item] if isinstance(item, (tuple, list)) else type(item).__name__
            raise ValueError(f'items must be pairs of a PIL image and a class, got {got} as item {index}')
        image, label = item
        mask = self.mask(index)
        if mask is None:
            return image, label, None
        _check_mask(mask, image, getattr(mask, 'filename', '') or str(index))
        return image, label, mask.convert('L')


def _check_mask(mask: Any, image: Image.Image, name: str) -> None:
    for part, each in (('image', image), ('mask', mask)):
        try:
            orientation = each.getexif().get(ExifTags.Base.Orientation, 1)
        except Exception:  # damaged EXIF, by which no program turns an image
            orientation = 1
        if orientation in range(2, 9):
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


class _NumberingReader:
    """One of timm's readers, which also returns the index."""

    def __init__(self, reader: Any):
        self.reader = reader

    def __getitem__(self, index: int) -> Tuple[Any, ...]:
        return *self.reader[index], index

    def __len__(self) -> int:
        return len(self.reader)


def _without_transform(dataset: Any) -> Tuple[Any, Any]:
    """Return a copy of a data set without its `transform`, and that."""
    attributes = getattr(dataset, '__dict__', {})
    images, transform = copy.copy(dataset), attributes.get('transform')
    values = [value[:1] if isinstance(value, (list, tuple)) else [value] for value in attributes.values()]
    holds_another = any(isinstance(each, Dataset) for value in values for each in value)
    if holds_another or isinstance(dataset, ImageDataset) and type(dataset).__getitem__ is not ImageDataset.__getitem__:
        raise ValueError(
            f'the data set must read its images itself, got {type(dataset).__name__}, whose items may be of others: '
            'give MaskedDataset the one that reads, and wrap it')
    for name, value in attributes.items():
        moves = value.transform if isinstance(value, StandardTransform) else value
        if not name.endswith(('transform', 'transforms')) or 'target' in name or not moves:
            continue
        if moves is not transform:
            raise ValueError(
                f'the data set must have no {name} that moves images alone, got that of {type(dataset).__name__}: give '
                'it to MaskedDataset')
        # torchvision's `transforms` calls its `transform`
        setattr(images, name, None if moves is value else StandardTransform(None, value.target_transform))
    return images, transform
