"""timm's training transforms, applied to an image and to the mask of its object: what moves one moves the other."""
import copy
import random
import threading
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import Any, Callable, Iterator, List, Optional, Tuple

import numpy as np
import torch
from PIL import Image
from timm.data import transforms as timm_transforms
from timm.data.auto_augment import AugMixAugment, AutoAugment, RandAugment
from timm.data.random_erasing import RandomErasing
from torchvision import transforms
from torchvision.transforms.functional import pil_to_tensor

# what timm.data.create_transform(..., is_training=True) makes
_MOVING = (
    timm_transforms.RandomResizedCropAndInterpolation, timm_transforms.ResizeKeepRatio, timm_transforms.CenterCropOrPad,
    timm_transforms.RandomCropOrPad, transforms.Resize, transforms.CenterCrop, transforms.RandomHorizontalFlip,
    transforms.RandomVerticalFlip)
_STILL = (transforms.ColorJitter, transforms.RandomGrayscale, transforms.GaussianBlur, transforms.Normalize)
_TO_TENSOR = (
    transforms.ToTensor, transforms.PILToTensor, timm_transforms.MaybeToTensor, timm_transforms.MaybePILToTensor)
_MOVING_OPERATIONS = ('Rotate', 'Shear', 'Translate')  # how the names of those of an auto-augmentation begin

_GENERATORS: Any = (  # the global ones: how to read their state, and to set it
    (random.getstate, random.setstate), (np.random.get_state, np.random.set_state),
    (torch.get_rng_state, torch.set_rng_state))
_TURN = threading.RLock()  # threads share them: one at a time draws for an image and its mask


class MaskedTransform:
    """Apply a transform to an image and, with the same draws, all of it that moves or hides pixels to its mask.

    The image is drawn and transformed as it would be without a mask. The mask is cropped and resized with the image's
    own interpolation, follows rotation, shear and translation by its nearest pixels, and is 0 where these bring in
    nothing, or random erasing hides something.

    Args:
        transform: What timm.data.create_transform(..., is_training=True) returns, whole or, by separate=True, in three
            parts. Of three parts the first may hold steps of your own that move pixels and leave colours, such as a
            crop. They take PIL images of any mode, and draw from the global generators of random, NumPy or PyTorch.
        before: A transform that comes first, of steps that create_transform makes; None: none.

    Raises:
        ValueError: If it holds a step that a mask cannot follow: AugMix, which blends images that moved differently, or
            one that create_transform does not make.
    """

    def __init__(self, transform: Any, before: Any = None):
        parts = list(transform) if isinstance(transform, (tuple, list)) else [transform]
        leaves = [(leaf, False) for leaf in _leaves(before)] if before else []
        leaves += [(leaf, part is parts[0] and len(parts) == 3) for part in parts for leaf in _leaves(part)]
        if not any(isinstance(leaf, _TO_TENSOR) for leaf, _ in leaves):
            raise ValueError(
                f'transform must make a tensor of the image, got {[type(leaf).__name__ for leaf, _ in leaves]}')
        self._steps: List[_Still] = []
        for moves, group in groupby(leaves, lambda leaf: type(leaf[0]) in _MOVING):  # to rewind once for a group
            same = list(group)
            self._steps += (
                [_Move(transforms.Compose([leaf for leaf, _ in same]))] if moves else [_step(*leaf) for leaf in same])

    def __call__(self, image: Image.Image, mask: Optional[Image.Image]) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the image [C, H, W] and its mask [1, H, W], float32 in [0, 1], NaN where mask is None.

        Args:
            image: The image, PIL.
            mask: Its mask of the same size, PIL of mode 'L', white where the object is; None: not known.

        Raises:
            ValueError: If a step of your own does not move both alike.
        """
        output: Any = image
        moved: Any = mask
        with _TURN:
            for step in self._steps:
                output, moved = step(output, moved)
        return output, torch.full((1, *output.shape[-2:]), torch.nan) if moved is None else moved


def erase_both(erasing: RandomErasing, image: torch.Tensor, mask: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Erase boxes of an image, or a batch of them, by timm's random erasing, the masks' by zeros; both in place."""
    zeros = copy.copy(erasing)
    zeros.rand_color = zeros.per_pixel = False  # draws nothing for its pixels
    with _same_draws() as rewind:
        output = erasing(image)
        rewind()
        return output, zeros(mask)


@contextmanager
def _same_draws() -> Iterator[Callable[[], None]]:
    """Yield a function that rewinds the generators; afterwards they go on from where they were rewound first."""
    with _TURN:
        before, after = _states(), []  # type: ignore[var-annotated]

        def rewind() -> None:
            after.extend(_states())
            _set_states(before)
        try:
            yield rewind
        finally:
            _set_states(after)


def _states() -> List[Any]:
    return [get() for get, _ in _GENERATORS]


def _set_states(states: List[Any]) -> None:
    for (_, set_one), state in zip(_GENERATORS, states):
        set_one(state)


def _leaves(transform: Any) -> List[Any]:
    """Return the transforms that one is made of, in their order."""
    if isinstance(transform, transforms.Compose):
        return [leaf for part in transform.transforms for leaf in _leaves(part)]
    return [transform]


def _step(leaf: Any, may_be_own: bool) -> '_Still':
    """Return the step (image, mask) -> (image, mask) for one transform that is not among _MOVING."""
    inner = leaf.transforms if isinstance(leaf, transforms.RandomApply) else [leaf]
    if all(isinstance(each, _STILL) for each in inner):
        return _Still(leaf)
    for step, kinds in ((_ToTensor, _TO_TENSOR), (_Erase, RandomErasing), (_Augment, (AutoAugment, RandAugment))):
        if isinstance(leaf, kinds):
            return step(leaf)
    if isinstance(leaf, _MOVING) or may_be_own and not isinstance(leaf, AugMixAugment):
        return _Own(leaf)
    raise ValueError(
        'transform must be made by timm.data.create_transform, of steps that a mask can follow, got '
        f'{type(leaf).__name__}')


class _Still:
    """A transform that moves nothing: the mask stays as it is."""

    def __init__(self, transform: Any):
        self.transform = transform

    def __call__(self, image: Any, mask: Any) -> Tuple[Any, Any]:
        return self.transform(image), mask


class _ToTensor(_Still):
    def __call__(self, image: Any, mask: Any) -> Tuple[Any, Any]:
        return self.transform(image), pil_to_tensor(mask).float() / 255 if isinstance(mask, Image.Image) else mask


class _Erase(_Still):
    def __call__(self, image: Any, mask: Any) -> Tuple[Any, Any]:
        return super().__call__(image, mask) if mask is None else erase_both(self.transform, image, mask)


class _Move(_Still):
    """A transform that moves pixels: the mask's too, with the same draws."""

    def __call__(self, image: Any, mask: Any) -> Tuple[Any, Any]:
        if mask is None:
            return super().__call__(image, mask)
        with _same_draws() as rewind:
            output = self.transform(image)
            rewind()
            return output, self.transform(mask)


class _Own(_Move):
    """A step of one's own: run on the image once more, to see that what it draws repeats."""

    def __call__(self, image: Any, mask: Any) -> Tuple[Any, Any]:
        if mask is None:
            return super().__call__(image, mask)
        with _same_draws() as rewind:
            again = self.transform(image.copy())
            rewind()
            output, moved = super().__call__(image, mask)
        sizes = [each.size if isinstance(each, Image.Image) else type(each) for each in (output, moved)]
        if sizes[0] != sizes[1] or not isinstance(output, Image.Image):
            raise ValueError(f'{self.transform} must make PIL images of one size of image and mask, got {sizes}')
        if not np.array_equal(np.asarray(output), np.asarray(again)):
            raise ValueError(
                f'{self.transform} must draw from the global generators of random, NumPy or PyTorch, for a mask to '
                'follow it: it moved one image in two ways, with these in the same states')
        return output, moved


class _Augment(_Still):
    """A RandAugment or AutoAugment whose operations that move pixels move the mask as well."""

    def __init__(self, augment: Any):
        super().__init__(copy.deepcopy(augment))
        self.mask: Any = None  # of the image that is being augmented
        rows = self.transform.policy if isinstance(augment, AutoAugment) else [self.transform.ops]
        for operation in (operation for row in rows for operation in row):
            if operation.name.startswith(_MOVING_OPERATIONS):
                operation.aug_fn = partial(self._move_both, operation.aug_fn)

    def __call__(self, image: Any, mask: Any) -> Tuple[Any, Any]:
        self.mask = mask
        return self.transform(image), self.mask

    def _move_both(self, move: Callable, image: Any, *args: Any, **kwargs: Any) -> Any:
        if self.mask is not None:  # passing `resample` stops timm from drawing one
            self.mask = move(self.mask, *args, **{**kwargs, 'fillcolor': 0, 'resample': Image.Resampling.NEAREST})
        return move(image, *args, **kwargs)
