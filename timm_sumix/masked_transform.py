"""timm's training transforms, applied to an image and to the mask of its object: what moves one moves the other."""
import copy
import random
import threading
from functools import partial
from typing import Any, Callable, List, Optional, Tuple

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
_AUGMENTING = (AutoAugment, RandAugment)
_FOLLOWED = (*_MOVING, *_TO_TENSOR, *_AUGMENTING, RandomErasing)  # types exactly: a subclass may do other work
_MOVING_OPERATIONS = ('Rotate', 'Shear', 'Translate')  # how the names of those of an auto-augmentation begin

_TURN = threading.Lock()  # threads share the global generators: one at a time draws for an image and its mask


class MaskedTransform:
    """Apply a transform to an image and, with the same draws, all of it that moves or hides pixels to its mask.

    The image is transformed as it would be without a mask. The mask is cropped and resized with the same interpolation,
    follows rotation, shear and translation by nearest pixels, and is 0 where these bring in nothing or it is erased.

    Args:
        transform: What timm.data.create_transform(..., is_training=True) returns, or a sequence of such transforms.

    ValueError if it holds a step that create_transform does not make, or AugMix, which blends what moved differently.
    """

    def __init__(self, transform: Any):
        steps = _leaves(transform)
        for step in steps:
            inner = step.transforms if type(step) is transforms.RandomApply else [step]
            if type(step) not in _FOLLOWED and not all(type(each) in _STILL for each in inner):
                raise ValueError(
                    'transform must be made by timm.data.create_transform, of steps that a mask can follow, got '
                    f'{type(step).__name__}')
        names = [type(step).__name__ for step in steps]
        if not any(isinstance(step, _TO_TENSOR) for step in steps):
            raise ValueError(f'transform must make a tensor of the image, got {names}')
        self._steps = [_of_pairs(step) if type(step) in _AUGMENTING else step for step in steps]

    def __call__(self, image: Image.Image, mask: Optional[Image.Image]) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return an image [C, H, W] and its mask [1, H, W], float32 in [0, 1], NaN where it is None.

        Both come as PIL images of one size; the mask is of mode 'L', white where the object is.
        """
        output: Any = image
        moved: Any = mask
        with _TURN:
            for step in self._steps:
                if type(step) in _AUGMENTING:
                    output, moved = step((output, moved))
                elif moved is not None and type(step) in _MOVING:
                    output, moved = _move_both(step, output, moved)
                elif moved is not None and type(step) is RandomErasing:
                    output, moved = erase_both(step, output, moved)
                else:
                    output = step(output)
                    if isinstance(output, torch.Tensor) and isinstance(moved, Image.Image):
                        moved = pil_to_tensor(moved).float() / 255
        return output, torch.full((1, *output.shape[-2:]), torch.nan) if moved is None else moved


def erase_both(erasing: RandomErasing, image: torch.Tensor, mask: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Erase boxes of an image, or a batch of them, by timm's random erasing, the masks' by zeros; both in place."""
    zeros = copy.copy(erasing)
    zeros.rand_color = zeros.per_pixel = False
    return _move_both(erasing, image, mask, zeros)


def _move_both(transform: Callable, image: Any, mask: Any, of_mask: Optional[Callable] = None) -> Tuple[Any, Any]:
    """Return an image and its mask moved by the same draws: the mask comes first, and the generators are set back."""
    state = random.getstate()
    with torch.random.fork_rng(devices=[]):
        moved = (of_mask or transform)(mask)
    random.setstate(state)
    return transform(image), moved


def _leaves(transform: Any) -> List[Any]:
    """Return the transforms that one, or a sequence of them, is made of, in their order."""
    parts = transform.transforms if isinstance(transform, transforms.Compose) else transform
    return [leaf for part in parts for leaf in _leaves(part)] if isinstance(parts, (list, tuple)) else [transform]


def _of_pairs(augment: Any) -> Any:
    """Return a copy of an auto-augmentation that takes (image, mask): it only hands on what its operations return."""
    augment = copy.deepcopy(augment)
    for row in augment.policy if isinstance(augment, AutoAugment) else [augment.ops]:
        for operation in row:
            operation.aug_fn = partial(_operate, operation.aug_fn, operation.name.startswith(_MOVING_OPERATIONS))
    return augment


def _operate(function: Callable, moves: bool, pair: Tuple[Any, Any], *args: Any, **kwargs: Any) -> Tuple[Any, Any]:
    image, mask = pair
    if moves and mask is not None:  # passing `resample` stops timm from drawing one
        mask = function(mask, *args, **{**kwargs, 'fillcolor': 0, 'resample': Image.Resampling.NEAREST})
    return function(image, *args, **kwargs), mask
