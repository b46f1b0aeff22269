"""--sumix-preview: a picture of the run's own mixed images with their labels, once an epoch."""
import os
from operator import length_hint
from typing import Any, List, Optional, Sequence, Tuple

import torch
from timm.data import ImageNetInfo
from timm.utils import CheckpointSaver
from torchvision.transforms import Normalize

from timm_sumix import MixedTarget
from timm_sumix.masks import MaskedDataset
from timm_sumix.preview import draw_preview

from .checks import class_index, inner_loader, loader_among
from .errors import logger

MOST_WAITED = 50  # batches
LEAST = 0.1  # share of the image


class Preview:
    """Called after each mixed batch of an epoch: saves `count` images of the first batch that shows two classes."""

    def __init__(self, path: str, count: int, loader: Any):
        self.path, self.count, self.loader = path, count, loader
        self.patience = min(MOST_WAITED, length_hint(loader, 1) - 1)  # of the last batch any picture will do; < 0: done

    def __call__(self, mixed: torch.Tensor, target: MixedTarget, lam: torch.Tensor) -> None:
        if self.patience < 0:
            return
        # one share for a whole batch may be next to nothing
        shows_two = ~target.same_labels & (target.area > LEAST) & (target.area < 1. - LEAST)
        self.patience = self.patience - 1 if not shows_two.any() else -1
        if self.patience >= 0:
            return
        try:
            draw_preview(
                mixed, target, lam, self.count, self.path, *normalisation(self.loader), class_names(self.loader))
            logger.info(f'SUMix: mixed images with their labels: {self.path}')
        except Exception as error:  # a picture is not worth a run
            logger.warning(f'SUMix: no preview: {type(error).__name__}: {error}')


def preview_of(epoch: int, count: int, arguments: Sequence[Any]) -> Optional[Preview]:
    """Return an epoch's preview, None if there is to be none; `arguments` are those of train_one_epoch."""
    saver = next((each for each in arguments if isinstance(each, CheckpointSaver)), None)  # in the first process
    loader = loader_among(arguments)
    if not count or saver is None or loader is None:
        return None
    return Preview(os.path.join(saver.checkpoint_dir, f'sumix-{epoch}.png'), count, loader)


def normalisation(loader: Any) -> Tuple[List[float], List[float]]:
    """Return the mean and standard deviation of each channel that a loader normalises by, for pixels in [0, 1]."""
    if hasattr(loader, 'mean'):  # timm's PrefetchLoader, which normalises pixels of [0, 255] on the device
        colours = slice(-1 if isinstance(inner_loader(loader).dataset, MaskedDataset) else None)
        mean, std = ((each / 255).flatten().tolist()[colours] for each in (loader.mean, loader.std))
        return mean, std
    transform = getattr(loader.dataset, 'transform', None)
    for step in getattr(transform, 'transforms', []):
        if isinstance(step, Normalize):
            return list(step.mean), list(step.std)
    raise ValueError(f'the loader must normalise by timm or by torchvision, got {transform}')


def class_names(loader: Any) -> Optional[List[str]]:
    """Return the names of the classes: of folders, in words where they are ImageNet's; None if the data has none."""
    # the first of the names that a class of torchvision's ImageNet has
    first = {number: name for name, number in reversed(class_index(loader).items())}
    names = [first.get(number, f'class {number}') for number in range(max(first, default=-1) + 1)]
    info = ImageNetInfo()
    if names and set(names) <= set(info.label_names()):
        names = [info.label_name_to_description(name).split(',')[0] for name in names]
    return names or None
