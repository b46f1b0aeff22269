"""A data set whose images come with masks of their objects, which follow timm's training transforms."""
import copy
from typing import Any, Callable, List, Optional, Tuple

import torch
from PIL import Image
from torch.utils.data import Dataset

from .masked_transform import MaskedTransform


class MaskedDataset(Dataset):
    """Images with masks of their objects: what SUMixMixup needs to label mixed images by what is visible of each.

    The mask goes through the image's transform with the same random draws; see MaskedTransform.

    Args:
        dataset: (PIL image, class) pairs by index, without a transform: one of timm's or torchvision's image folders.
        mask: Called with an index; returns a PIL image of the mask in the size of the image (mode '1', or 'L' for
            masks with soft edges, white where the object is), or None where it is not known.
        transform: What timm.data.create_transform(..., is_training=True) returns, whole or in its three parts. None:
            it is set later, as timm.data.create_loader does.

    Raises:
        ValueError: If a mask cannot follow the transform, as MaskedTransform says.
    """

    def __init__(
            self,
            dataset: Dataset,
            mask: Callable[[int], Optional[Image.Image]],
            transform: Any = None,
    ):
        self._reads: List[int] = []
        self.dataset = _noting_reads(dataset, self._reads)
        self.mask = mask
        self.transform = transform

    @property
    def transform(self) -> Any:
        """The transform of the images, as it was given."""
        return self._transform

    @transform.setter
    def transform(self, transform: Any) -> None:
        self._transform = transform
        self._masked = None if transform is None else MaskedTransform(transform)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Tuple[torch.Tensor, int, torch.Tensor]:
        """Return an image [3, H, W], its class, and its mask [1, H, W] in [0, 1], NaN where none is known.

        Raises:
            ValueError: If there is no transform, or as read() says.
            RuntimeError: As read() says.
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
            ValueError: If the mask is not of the image's size, of another mode, or of 0 and 1 rather than 0 and 255.
            RuntimeError: If an image is unreadable in an ImageDataset that another data set wraps: which of the
                wrapping one's images is read in its place cannot be told.
        """
        image, label, index = self._read(index)
        mask = self.mask(index)
        if mask is None:
            return image, label, None
        most = mask.getextrema()[1] if mask.mode == 'L' else 255
        if mask.mode not in ('1', 'L') or mask.size != image.size or most == 1:
            raise ValueError(
                f"mask {getattr(mask, 'filename', '') or index} must be a PIL image of mode '1' or 'L', of the size of "
                f'its image, {image.size}, white (255) where the object is, got mode {mask.mode!r}, {mask.size}, up to '
                f'{most}')
        return image, label, mask.convert('L')

    def _read(self, index: int) -> Tuple[Image.Image, int, int]:
        """Return an image, its class, and the index that it really has."""
        self._reads.clear()
        image, label = self.dataset[index]
        if len(self._reads) < 2:
            return image, label, index
        if not hasattr(self.dataset, 'reader'):
            raise RuntimeError(
                f'image {index} is unreadable, and {type(self.dataset).__name__} does not tell which was read instead: '
                'leave the unreadable file out')
        return image, label, self._reads[-1]


class _NotingReader:
    """One of timm's readers, which notes the indices that are read."""

    def __init__(self, reader: Any, reads: List[int]):
        self.reader = reader
        self.reads = reads

    def __getitem__(self, index: int) -> Any:
        self.reads.append(index)
        return self.reader[index]

    def __len__(self) -> int:
        return len(self.reader)

    def __getattr__(self, name: str) -> Any:
        if name == 'reader':  # a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self.reader, name)


def _noting_reads(dataset: Any, reads: List[int]) -> Any:
    """Return a data set like this one, whose readers, at whatever depth, note in `reads` what they read."""
    noting = copy.copy(dataset)
    if hasattr(dataset, 'reader'):
        noting.reader = _NotingReader(dataset.reader, reads)
    if isinstance(getattr(dataset, 'dataset', None), Dataset):  # as of torch's Subset
        noting.dataset = _noting_reads(dataset.dataset, reads)
    if isinstance(getattr(dataset, 'datasets', None), list):  # of its ConcatDataset
        noting.datasets = [_noting_reads(each, reads) for each in dataset.datasets]
    return noting
