"""A data set whose images come with masks of their objects, which follow timm's geometric transforms."""
import copy
import random
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
from PIL import Image
from timm.data.auto_augment import AugMixAugment, AutoAugment, RandAugment
from timm.data.transforms import MaybePILToTensor, MaybeToTensor
from torch.utils.data import Dataset
from torchvision import transforms
from torchvision.transforms.functional import pil_to_tensor

# what create_transform makes, besides auto-augmentations, that leaves pixels where they are
_STILL = (
    transforms.ColorJitter, transforms.RandomGrayscale, transforms.GaussianBlur, transforms.Normalize,
    transforms.ToTensor, transforms.PILToTensor, MaybeToTensor, MaybePILToTensor)
_MOVING = ('Rotate', 'Shear', 'Translate')  # how the names of timm's operations that move pixels begin


class MaskedDataset(Dataset):
    """Images with masks of their objects: what SUMixMixup needs to label mixed images by what is visible of each.

    The mask goes through the very transform that crops and flips the image, with the same random draws.

    Args:
        dataset: (PIL image, class) pairs by index, without a transform: one of timm's or torchvision's image folders.
        mask: Called with an index; returns a PIL image of the mask in the size of the image (mode '1', or 'L' for
            masks with soft edges, white where the object is), or None where it is not known.
        transform: What timm.data.create_transform(..., is_training=True, separate=True) returns. Its first part crops
            and flips; the others must leave the pixels where they are.

    Raises:
        TypeError: If transform is not in three parts.
        ValueError: If its later parts move or hide pixels, or may do so for all that is known here: an
            auto-augmentation with rotation, shear or translation ('3a', without, is fine), random erasing, or a
            transform that create_transform does not make.
    """

    def __init__(
            self,
            dataset: Dataset,
            mask: Callable[[int], Optional[Image.Image]],
            transform: Sequence[Any],
    ):
        is_split = isinstance(transform, (tuple, list))
        if not is_split or len(transform) != 3:
            got = f'{len(transform)} parts' if is_split else type(transform).__name__
            raise TypeError(f'transform must be the three parts of create_transform(..., separate=True), got {got}')
        moving = _moving_operations(transform[1:])
        if moving:
            raise ValueError(
                f'transform must crop and flip in its first part alone, as masks follow no other, got {moving}: use '
                "auto_augment '3a' or none, and re_prob 0")
        self._reads: List[int] = []
        self.dataset = _noting_reads(dataset, self._reads)
        self.mask = mask
        self.geometric, self.colours, self.final = transform

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Tuple[torch.Tensor, int, torch.Tensor]:
        """Return an image [3, H, W], its class, and its mask [1, H, W] in [0, 1], NaN where none is known.

        Where timm's ImageDataset cannot read an image and goes on to the next, the mask is that one's too.

        Raises:
            ValueError: If the mask is not of the image's size, of another mode, or of 0 and 1 rather than 0 and 255.
            RuntimeError: If an image is unreadable in an ImageDataset that another data set wraps: which of the
                wrapping one's images is read in its place cannot be told.
        """
        image, label, index = self._read(index)
        mask = self.mask(index)
        most = mask.getextrema()[1] if mask is not None and mask.mode == 'L' else 255
        if mask is not None and (mask.mode not in ('1', 'L') or mask.size != image.size or most == 1):
            raise ValueError(
                f"mask {index} must be a PIL image of mode '1' or 'L', of the size of its image, {image.size}, white "
                f'(255) where the object is, got mode {mask.mode!r}, {mask.size}, up to {most}')
        states = random.getstate(), torch.get_rng_state()
        moved = self.geometric(image)
        tensor = self.final(self.colours(moved))
        if mask is None:
            return tensor, label, torch.full((1, *tensor.shape[-2:]), torch.nan)
        after = random.getstate(), torch.get_rng_state()
        _set_states(states)
        moved_mask = self.geometric(mask.convert('L'))
        _set_states(after)
        return tensor, label, pil_to_tensor(moved_mask).float() / 255

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


def _set_states(states: Tuple[Any, torch.Tensor]) -> None:
    random.setstate(states[0])
    torch.set_rng_state(states[1])


def _moving_operations(parts: Sequence[Any]) -> List[str]:
    """Return the names of the operations that move or hide pixels, and of transforms that are not known."""
    found = []
    for transform in (leaf for part in parts for leaf in _leaves(part)):
        operations = _operations(transform)
        if operations is not None:
            found += [operation.name for operation in operations if operation.name.startswith(_MOVING)]
        elif not isinstance(transform, _STILL):
            found.append(type(transform).__name__)
    return list(dict.fromkeys(found))


def _leaves(transform: Any) -> List[Any]:
    """Return the transforms that one is made of."""
    if isinstance(transform, (transforms.Compose, transforms.RandomApply)):
        return [leaf for part in transform.transforms for leaf in _leaves(part)]
    return [transform]


def _operations(transform: Any) -> Optional[List[Any]]:
    """Return what one of timm's auto-augmentations draws from; None if the transform is another."""
    if isinstance(transform, AutoAugment):
        return [operation for policy in transform.policy for operation in policy]
    return transform.ops if isinstance(transform, (RandAugment, AugMixAugment)) else None
