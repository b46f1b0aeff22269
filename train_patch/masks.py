"""--sumix-masks: masks of the objects, read with the pictures of the script's training data, for truer labels.

A mask travels as the last channel of its image: through timm's collate function, the prefetcher, which normalises and
erases on the device, and the script's own loop, up to the mixing, which takes it off.
"""
import copy
import logging
import os
from pathlib import Path
from typing import Any, Callable, Optional, Tuple

import numpy as np
import torch
from PIL import Image, ImageStat
from timm.data.loader import PrefetchLoader
from timm.data.random_erasing import RandomErasing
from torch.utils.data import Dataset, IterableDataset

from timm_sumix import MixedTarget, SUMixMixup
from timm_sumix.masked_transform import erase_both
from timm_sumix.masks import MaskedDataset

from .log import log_once

_logger = logging.getLogger('train_patch')

MOST, UNKNOWN = 127, 255  # a mask in the bytes of a uint8 image; normalised, what is not known stays above 1
LOOKED_AT = 64  # pictures, before training begins
MODES = ('1', 'L', 'P', 'I', 'I;16', 'I;16B', 'I;16L', 'RGB')  # without transparency


class MaskFolder:
    """The masks of a data set, by index: FOLDER/<path of the picture>.png, any of whose pixels but 0 is the object's.

    Args:
        folder: Folder that mirrors the data folder, or that of the training pictures in it.
        dataset: timm's ImageDataset or torchvision's ImageFolder.
        data_dir: The data folder.

    Raises:
        ValueError: If the data set does not tell the names of its pictures, or none of them has a mask.
    """

    def __init__(self, folder: str, dataset: Any, data_dir: str):
        self.names = _picture_names(dataset)
        root = str(getattr(getattr(dataset, 'reader', dataset), 'root', None) or data_dir)
        below = os.path.relpath(root, data_dir)  # such as 'train'
        mirrored = Path(folder) / below
        self.root = Path(folder) if below.startswith('..') or not mirrored.is_dir() else mirrored
        if os.path.exists(root) and self.root.samefile(root):
            raise ValueError(f'must be another folder than that of the pictures, got {folder}')
        if not any(self.path(index).is_file() for index in range(len(dataset))):
            raise ValueError(f'must hold a mask for each picture, {self.path(0)} and so on, and none is there')

    def path(self, index: int) -> Path:
        """Return the mask's file, whether or not it is there."""
        return self.root / Path(self.names(index)).with_suffix('.png')

    def __call__(self, index: int) -> Optional[Image.Image]:
        """Return a mask, mode 'L', white where the object is; None if there is none, or no object in it."""
        path = self.path(index)
        if not path.is_file():
            return None
        try:
            mask = _read_mask(path)
        except OSError as error:  # as timm does of pictures
            _logger.warning(f'SUMix: mask {path} cannot be read, its object is taken for not known: {error}')
            return None
        if mask.getextrema() == (0, 0):
            return None
        mask.filename = str(path)  # type: ignore[attr-defined]  # for what may be wrong with it
        return mask


def _read_mask(path: Path) -> Image.Image:
    """Return a mask file as mode 'L', white where it is not 0; ValueError if it may be transparent."""
    with Image.open(path) as file:
        if file.mode not in MODES or 'transparency' in file.info:
            raise ValueError(f'mask {path} must be without transparency, of a mode in {MODES}, got {file.mode!r}')
        return _white_where_not_zero(file.convert('RGB') if file.mode == 'P' else file)  # an index is no colour


def _white_where_not_zero(image: Image.Image) -> Image.Image:
    if image.mode in ('1', 'L'):  # the usual ones, by Pillow alone, which is faster
        return image.convert('L').point([0] + [255] * 255)
    pixels = np.asarray(image) != 0
    return Image.fromarray(255 * (pixels.any(-1) if pixels.ndim == 3 else pixels).astype(np.uint8))


def _picture_names(dataset: Any) -> Callable[[int], str]:
    """Return the function that gives a picture's path, by index, below the folder of the training pictures."""
    if hasattr(dataset, 'reader') and not isinstance(dataset, IterableDataset):
        names = dataset.filename
    elif hasattr(dataset, 'samples') and hasattr(dataset, 'root'):  # torchvision's
        def names(index: int) -> str:
            return os.path.relpath(dataset.samples[index][0], dataset.root)
    else:
        raise ValueError(f'needs data in folders or tar files, whose pictures have names, got {type(dataset).__name__}')
    if not isinstance(names(0), str):
        raise ValueError(f'needs pictures with names, and those of {type(dataset).__name__} have none')
    return names


class _WithMaskChannel(MaskedDataset):
    """Images whose last channel is their mask: uint8 in MOST steps, UNKNOWN; or floating, in [0, 1], NaN."""

    def __getitem__(self, index: int) -> Tuple[torch.Tensor, int]:  # type: ignore[override]
        image, label, mask = super().__getitem__(index)
        if image.dtype == torch.uint8:
            mask = (mask * MOST).round_().nan_to_num_(UNKNOWN)
        return torch.cat([image, mask.to(image.dtype)]), label


class MaskedMixup(SUMixMixup):
    """A SUMixMixup that takes masks off its images, as their last channel, and counts the images that have one."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._begin()

    def _begin(self) -> None:
        self._with_mask: Any = 0  # images that have one, on their device: no step waits for it
        self._total = 0

    def __call__(  # type: ignore[override]
            self, x: torch.Tensor, labels: torch.Tensor) -> Tuple[torch.Tensor, MixedTarget]:
        """Mix images [N, C + 1, H, W]; see SUMixMixup."""
        channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        images, masks = x[:, :-1], x[:, -1:].float()
        images = images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        masks = torch.where(masks <= 1., masks, torch.nan)
        known = masks.isfinite().flatten(1).all(1)
        self._with_mask = self._with_mask + known.sum()
        self._total += len(known)
        return super().__call__(images, labels, masks)

    def pop_counts(self) -> Tuple[int, int]:
        """Return how many images had a mask since the last call, and how many there were, over all processes."""
        if not self._total:
            return 0, 0
        counts = torch.stack([self._with_mask, torch.full_like(self._with_mask, self._total)])
        self._begin()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
        with_mask, total = counts.tolist()
        return with_mask, total


def with_masks(dataset: Any, folder: str, data_dir: str) -> Dataset:
    """Return a data set whose images have their mask as the last channel; ValueError where masks do not fit."""
    files = MaskFolder(folder, dataset, data_dir)
    # a copy, since a reader of tar files keeps them open, and worker processes must open their own
    _look_at_some(MaskedDataset(copy.deepcopy(dataset), files), files)
    return _WithMaskChannel(dataset, files)


def _look_at_some(dataset: MaskedDataset, files: MaskFolder) -> None:
    """Read some pictures with their masks, evenly spaced: what is wrong with all of them shows before training."""
    indices = torch.linspace(0, len(dataset) - 1, min(LOOKED_AT, len(dataset))).round().long().tolist()
    masks = [mask for mask in (dataset.read(index)[2] for index in indices) if mask is not None]
    share = sum(ImageStat.Stat(mask).mean[0] / 255 for mask in masks) / max(len(masks), 1)
    log_once(
        f'masks from {files.root}: {len(masks)} of {len(indices)} pictures looked at have one, and objects take '
        f'{share:.0%} of these.')


def carry_masks(loader: Any) -> None:
    """Have timm's prefetcher, if it is one, leave the last channel in [0, 1], but for what random erasing hides."""
    if not isinstance(loader, PrefetchLoader):
        return
    loader.mean = torch.cat([loader.mean, torch.zeros_like(loader.mean[:, :1])], dim=1)
    loader.std = torch.cat([loader.std, torch.full_like(loader.std[:, :1], MOST)], dim=1)
    if loader.random_erasing is not None:
        loader.random_erasing = _ErasingBoth(loader.random_erasing)  # type: ignore[assignment]


class _ErasingBoth:
    """Random erasing of images [N, C + 1, H, W] whose last channel is their mask, in place."""

    def __init__(self, erasing: RandomErasing):
        self.erasing = erasing

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        erase_both(self.erasing, images[:, :-1], images[:, -1:])
        return images
