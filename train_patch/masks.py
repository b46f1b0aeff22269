"""--sumix-masks: masks of the objects, for truer labels: the last channel of their images, until these are mixed."""
import copy
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any, Optional, Tuple, cast

import numpy as np
import torch
from PIL import Image, ImageStat
from timm.data.loader import PrefetchLoader
from torch.utils.data import IterableDataset

from timm_sumix import MixedTarget, SUMixMixup
from timm_sumix.masked_transform import erase_both
from timm_sumix.masks import MaskedDataset

from .errors import log_once, logger

MOST, UNKNOWN = 127, 255  # a mask in the bytes of a uint8 image; normalised, what is not known stays above 1
LOOKED_AT = 64  # pictures, before training begins
NAMES = 10_000  # file names looked at where each costs the reading of a picture
FEW = 0.75  # a smaller share of pictures with masks is a warning
MODES = ('1', 'L', 'P', 'I', 'I;16', 'I;16B', 'I;16L', 'RGB')  # without transparency


class MaskFolder:
    """The masks of a data set, by index: FOLDER/<path of the picture>.png, any of whose pixels but 0 is the object's.

    The folder mirrors the data folder, or that of the training pictures in it.
    """

    def __init__(self, folder: str, dataset: Any, data_dir: str):
        self.dataset = dataset
        self.samples = getattr(getattr(dataset, 'reader', dataset), 'samples', None)
        if isinstance(dataset, IterableDataset) or self.samples is None and not hasattr(dataset, 'filename'):
            raise ValueError(
                f'needs data in folders or tar files, whose pictures have names, got {type(dataset).__name__}')
        self.pictures = str(getattr(getattr(dataset, 'reader', dataset), 'root', None) or data_dir)
        below = os.path.relpath(self.pictures, data_dir)  # such as 'train'
        mirrored = Path(folder) / below
        self.root = Path(folder) if below.startswith('..') or not mirrored.is_dir() else mirrored
        if os.path.exists(self.pictures) and self.root.samefile(self.pictures):
            raise ValueError(f'must be another folder than that of the pictures, got {folder}')
        step = 1 if self.samples is not None else len(dataset) // NAMES + 1
        names = [self._name(index) for index in range(0, len(dataset), step)]
        if len(set(names)) < len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise ValueError(f'needs one picture for each mask, got several for {self.root / twice}')
        folders = {os.path.dirname(name) for name in names}
        files = {
            os.path.join(folder, file) for folder in folders if (self.root / folder).is_dir()
            for file in os.listdir(self.root / folder)}.intersection(names)
        if not files:
            raise ValueError(f'must hold a mask for each picture, {self.path(0)} and so on, and none is there')
        self.missing = 1. - len(files) / len(names)
        self.without = sorted(folders - {os.path.dirname(file) for file in files})

    def path(self, index: int) -> Path:
        """Return the mask's file, whether or not it is there."""
        return self.root / self._name(index)

    def _name(self, index: int) -> str:
        name = None if self.samples is None else self.samples[index][0]
        if not isinstance(name, str):  # pictures in a tar file, or in rows
            name = self.dataset.filename(index)
        if not isinstance(name, str):
            raise ValueError(f'needs pictures with names, and those of {type(self.dataset).__name__} have none')
        below = name.removeprefix(os.path.join(self.pictures, ''))
        below = os.path.relpath(below, self.pictures) if os.path.isabs(below) else os.path.normpath(below)
        if below.startswith('..'):
            raise ValueError(f'needs pictures in {self.pictures}, got {name}')
        return os.path.splitext(below)[0] + '.png'

    def __call__(self, index: int) -> Optional[Image.Image]:
        """Return a mask, mode 'L', white where the object is; None if there is none, or no object in it."""
        path = self.path(index)
        if not path.is_file():
            return None
        try:
            with Image.open(path) as file:
                file.load()
        except Exception as error:  # Pillow raises many kinds for damaged files
            logger.warning(f'SUMix: mask {path} cannot be read, its object is taken for not known: {error}')
            return None
        if file.mode not in MODES or 'transparency' in file.info:
            raise ValueError(f'mask {path} must be without transparency, of a mode in {MODES}, got {file.mode!r}')
        colours = np.asarray(file.convert('RGB') if file.mode == 'P' else file)  # an index is no colour
        is_object = colours.any(-1) if colours.ndim == 3 else colours != 0
        if is_object.all() and (colours != colours[0, 0]).any():
            values = np.unique(colours.reshape(is_object.size, -1), axis=0)[:3].squeeze().tolist()
            raise ValueError(f'mask {path} must be black (0) where the object is not, got no black, but {values}')
        if not is_object.any():
            return None
        mask = Image.fromarray(255 * is_object.astype(np.uint8))
        mask.filename, mask.info = str(path), file.info  # type: ignore[attr-defined]  # for what may be wrong with it
        return mask


class _WithMaskChannel(MaskedDataset):
    """Images whose last channel is their mask: uint8 to MOST, or UNKNOWN; floating in [0, 1], or NaN."""

    def __getitem__(self, index: int) -> Tuple[torch.Tensor, int]:  # type: ignore[override]
        image, label, mask = super().__getitem__(index)
        if image.dtype == torch.uint8:
            mask = (mask * MOST).round_().nan_to_num_(UNKNOWN)
        return torch.cat([image, mask.to(image.dtype)]), label


class MaskedMixup(SUMixMixup):
    """A SUMixMixup that takes masks off its images, as their last channel, and counts the images that have one."""

    _with_mask: Any = 0  # images that have one, on their device: no step waits for it
    _total = 0

    def __call__(  # type: ignore[override]
            self, x: torch.Tensor, labels: torch.Tensor) -> Tuple[torch.Tensor, MixedTarget]:
        # x is [N, C + 1, H, W]
        images, masks = x[:, :-1].clone(), x[:, -1:].float()  # a copy, in the order of x: channels last or not
        masks = torch.where(masks <= 1., masks, torch.nan)
        known = masks.isfinite().flatten(1).all(1)
        self._with_mask = self._with_mask + known.sum()
        self._total += len(known)
        return super().__call__(images, labels, masks)

    def pop_counts(self) -> Tuple[int, ...]:
        """Return how many images had a mask since the last call, and how many there were, over all processes."""
        if not self._total:
            return 0, 0
        counts = torch.stack([self._with_mask, torch.full_like(self._with_mask, self._total)])
        self._with_mask = self._total = 0
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
        return tuple(counts.tolist())


def with_masks(dataset: Any, folder: str, data_dir: str) -> MaskedDataset:
    """Return a data set whose images have their mask as the last channel; ValueError where masks do not fit."""
    return _WithMaskChannel(dataset, MaskFolder(folder, dataset, data_dir))


def look_at_some(dataset: MaskedDataset) -> None:
    """Read some pictures with their masks, evenly spaced: what is wrong with all of them shows before training."""
    # a copy, since a reader of tar files keeps them open, and worker processes must open their own
    dataset, files = copy.deepcopy(dataset), cast(MaskFolder, dataset.mask)
    indices = torch.linspace(0, len(dataset) - 1, min(LOOKED_AT, len(dataset))).round().long().tolist()
    masks = [mask for mask in (dataset.read(index)[2] for index in indices) if mask is not None]
    share = sum(ImageStat.Stat(mask).mean[0] / 255 for mask in masks) / max(len(masks), 1)
    others = f' and {len(files.without) - 3} more' if len(files.without) > 3 else ''
    classes = f', all of {", ".join(files.without[:3])}{others}' if files.without else ''
    log_once(
        f'masks from {files.root}: {len(masks)} of {len(indices)} pictures looked at have one, and objects take '
        f'{share:.0%} of these; labels by masks where both pictures have one; the ratio for the rest. '
        f'{files.missing:.0%} of all pictures have no mask file{classes}; a black mask counts as none.',
        logging.WARNING if files.without or len(masks) < FEW * len(indices) else logging.INFO)


def carry_masks(loader: Any) -> None:
    """Have timm's prefetcher, if it is one, leave the last channel in [0, 1], but for what random erasing hides."""
    if not isinstance(loader, PrefetchLoader):
        return
    loader.mean = torch.cat([loader.mean, torch.zeros_like(loader.mean[:, :1])], dim=1)
    loader.std = torch.cat([loader.std, torch.full_like(loader.std[:, :1], MOST)], dim=1)
    erasing = loader.random_erasing
    if erasing is not None:
        def erase(images: torch.Tensor) -> torch.Tensor:  # in place
            erase_both(erasing, images[:, :-1], images[:, -1:])
            return images
        loader.random_erasing = erase  # type: ignore[assignment]
