"""timm's training transforms, applied to an image and to the mask of its object: what moves one moves the other."""
import copy
import random
from functools import partial
from itertools import groupby
from typing import Any, Callable, List, Optional, Tuple

import numpy as np
import torch
from PIL import Image
from timm.data import transforms as timm_transforms
from timm.data.auto_augment import AutoAugment, RandAugment
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

_Step = Callable[[Any, Any], Tuple[Any, Any]]


class MaskedTransform:
    """Apply a transform to an image and, with the same draws, all of it that moves or hides pixels to its mask.

    The image is drawn and transformed as it would be without a mask. The mask is cropped and resized with the image's
    own interpolation, follows rotation, shear and translation by its nearest pixels, and is 0 where these bring in
    nothing, or random erasing hides something.

    Args:
        transform: What timm.data.create_transform(..., is_training=True) returns, whole or, by separate=True, in three
            parts. Of three parts the first may be anything that takes an image of any mode, such as a crop of your own.

    Raises:
        ValueError: If it holds a step that a mask cannot follow: AugMix, which blends images that moved differently, or
            one that create_transform does not make.
    """

    def __init__(self, transform: Any):
        self._steps: List[_Step] = []
        others = [transform]
        if isinstance(transform, (tuple, list)) and len(transform) == 3:
            first, *others = transform
            self._steps.append(_moving(first))
        leaves = [leaf for part in others for leaf in _leaves(part)]
        if not any(isinstance(leaf, _TO_TENSOR) for leaf in leaves):
            raise ValueError(
                f'transform must make a tensor of the image, got {[type(leaf).__name__ for leaf in leaves]}')
        for moves, group in groupby(leaves, lambda leaf: isinstance(leaf, _MOVING)):
            own = list(group)
            # together, so that the random states are kept once for all
            self._steps += [_moving(transforms.Compose(own))] if moves else map(_step_of, own)

    def __call__(self, image: Image.Image, mask: Optional[Image.Image]) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the image [C, H, W] and its mask [1, H, W], float32 in [0, 1], NaN where mask is None.

        Args:
            image: The image, PIL.
            mask: Its mask of the same size, PIL of mode 'L', white where the object is; None: not known.
        """
        output: Any = image
        moved: Any = mask
        for step in self._steps:
            output, moved = step(output, moved)
        return output, torch.full((1, *output.shape[-2:]), torch.nan) if moved is None else moved


def erase_both(erasing: RandomErasing, image: torch.Tensor, mask: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Erase boxes of an image, or a batch of them, by timm's random erasing, the masks' by zeros; both in place."""
    zeros = copy.copy(erasing)
    zeros.rand_color = zeros.per_pixel = False  # draws nothing for its pixels
    return _with_same_draws(erasing, zeros, image, mask)


def _leaves(transform: Any) -> List[Any]:
    """Return the transforms that one is made of, in their order."""
    if isinstance(transform, transforms.Compose):
        return [leaf for part in transform.transforms for leaf in _leaves(part)]
    return [transform]


def _step_of(leaf: Any) -> _Step:
    """Return the step (image, mask) -> (image, mask) for one transform that moves nothing by itself."""
    if isinstance(leaf, (RandAugment, AutoAugment)):
        return _Augment(leaf)
    if isinstance(leaf, RandomErasing):
        return partial(_unless_unknown, leaf, partial(erase_both, leaf))
    if isinstance(leaf, _TO_TENSOR):
        return partial(_to_tensor, leaf)
    inner = leaf.transforms if isinstance(leaf, transforms.RandomApply) else [leaf]
    if all(isinstance(each, _STILL) for each in inner):
        return partial(_image_alone, leaf)
    raise ValueError(
        'transform must be made by timm.data.create_transform, of steps that a mask can follow, got '
        f'{type(leaf).__name__}')


def _moving(leaf: Callable) -> _Step:
    return partial(_unless_unknown, leaf, partial(_with_same_draws, leaf, leaf))


def _unless_unknown(of_image: Callable, of_both: _Step, image: Any, mask: Any) -> Tuple[Any, Any]:
    return (of_image(image), None) if mask is None else of_both(image, mask)


def _with_same_draws(of_image: Callable, of_mask: Callable, image: Any, mask: Any) -> Tuple[Any, Any]:
    """Return both transformed; the mask's transform draws what the image's drew, and leaves no trace."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    output = of_image(image)
    after = random.getstate(), np.random.get_state(), torch.get_rng_state()
    _set_states(*before)
    moved = of_mask(mask)
    _set_states(*after)
    return output, moved


def _set_states(of_python: Any, of_numpy: Any, of_torch: torch.Tensor) -> None:
    random.setstate(of_python)
    np.random.set_state(of_numpy)
    torch.set_rng_state(of_torch)


def _image_alone(leaf: Callable, image: Any, mask: Any) -> Tuple[Any, Any]:
    return leaf(image), mask


def _to_tensor(leaf: Callable, image: Any, mask: Any) -> Tuple[Any, Any]:
    return leaf(image), None if mask is None else pil_to_tensor(mask).float() / 255


class _Augment:
    """A RandAugment or AutoAugment whose operations that move pixels move the mask as well."""

    def __init__(self, augment: Any):
        self.augment = copy.deepcopy(augment)
        self.mask: Any = None  # of the image that is being augmented
        rows = self.augment.policy if isinstance(augment, AutoAugment) else [self.augment.ops]
        for operation in (operation for row in rows for operation in row):
            if operation.name.startswith(_MOVING_OPERATIONS):
                operation.aug_fn = partial(self._move_both, operation.aug_fn)

    def __call__(self, image: Any, mask: Any) -> Tuple[Any, Any]:
        self.mask = mask
        return self.augment(image), self.mask

    def _move_both(self, move: Callable, image: Any, *args: Any, **kwargs: Any) -> Any:
        if self.mask is not None:  # a filter that is named is not drawn
            self.mask = move(self.mask, *args, **{**kwargs, 'fillcolor': 0, 'resample': Image.Resampling.NEAREST})
        return move(image, *args, **kwargs)
