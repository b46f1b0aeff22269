"""A data set whose images come with masks of their objects, which follow timm's geometric transforms."""
import random
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing
from torch.utils.data import Dataset
from torchvision.transforms.functional import pil_to_tensor

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
        ValueError: If its later parts move or hide pixels: an auto-augmentation with rotation, shear or translation
            ('3a', without, is fine), or random erasing.
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
        self.dataset = dataset
        self.mask = mask
        self.geometric, self.colours, self.final = transform

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Tuple[torch.Tensor, int, torch.Tensor]:
        """Return an image [3, H, W], its class, and its mask [1, H, W] in [0, 1], zeros where none is known.

        Raises:
            ValueError: If the mask is not of the image's size.
        """
        image, label = self.dataset[index]
        mask = self.mask(index)
        if mask is not None and mask.size != image.size:
            raise ValueError(f'mask {index} must be of the size of its image, {image.size}, got {mask.size}')
        states = random.getstate(), torch.get_rng_state()
        moved = self.geometric(image)
        tensor = self.final(self.colours(moved))
        if mask is None:
            return tensor, label, torch.zeros(1, *tensor.shape[-2:])
        after = random.getstate(), torch.get_rng_state()
        _set_states(states)
        moved_mask = self.geometric(mask.convert('L'))
        _set_states(after)
        return tensor, label, pil_to_tensor(moved_mask).float() / 255


def _set_states(states: Tuple[Any, torch.Tensor]) -> None:
    random.setstate(states[0])
    torch.set_rng_state(states[1])


def _moving_operations(transforms: Sequence[Any]) -> List[str]:
    """Return the names of the operations that move or hide pixels."""
    found = []
    for transform in (part for own in transforms for part in getattr(own, 'transforms', [own])):
        if isinstance(transform, RandomErasing):
            found.append('RandomErasing')
        policies = getattr(transform, 'policy', [])  # timm's AutoAugment; its RandAugment and AugMix have `ops`
        operations = [*getattr(transform, 'ops', []), *(op for policy in policies for op in policy)]
        found += [op.name for op in operations if op.name.startswith(_MOVING)]
    return list(dict.fromkeys(found))
