"""--sumix-preview: a picture of the run's own mixed images with their labels, once an epoch."""
import logging
import os
from operator import length_hint
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from timm.data import ImageNetInfo
from timm.utils import CheckpointSaver
from torchvision.transforms import Normalize

from timm_sumix import MixedTarget
from timm_sumix.masks import MaskedDataset
from timm_sumix.preview import draw_preview

from .data import class_index, inner_loader, loader_among

_logger = logging.getLogger('train_patch')

MOST_WAITED = 50  # batches
LEAST = 0.1  # share of the image


class Preview:
    """Called after each mixed batch of an epoch: saves the picture of the first that shows something.

    A failure is logged, and the run goes on.

    Args:
        path: Picture file.
        count: Number of images.
        loader: The script's training loader, which knows the normalisation and the names of the classes.
    """

    def __init__(self, path: str, count: int, loader: Any):
        self.path = path
        self.count = count
        self.loader = loader
        self.done = False
        self.patience = min(MOST_WAITED, length_hint(loader, 1) - 1)  # of the last batch any picture will do

    @classmethod
    def of_epoch(cls, epoch: int, count: int, arguments: Sequence[Any]) -> Optional['Preview']:
        """Return the preview of an epoch; None if there is to be none, as in all processes but the first.

        Args:
            epoch: The epoch.
            count: Number of images, 0 for no preview.
            arguments: Those of the script's train_one_epoch: in the first process a CheckpointSaver is among them.
        """
        savers = [argument for argument in arguments if isinstance(argument, CheckpointSaver)]
        loader = loader_among(arguments)
        if not count or not savers or loader is None:
            return None
        return cls(os.path.join(savers[0].checkpoint_dir, f'sumix-{epoch}.png'), count, loader)

    def __call__(self, mixed: torch.Tensor, target: MixedTarget, lam: torch.Tensor) -> None:
        """Save the picture, the first time that there is one worth it, or what there is once patience is at an end."""
        if self.done or self.patience > 0 and not shows_two_classes(target):
            self.patience -= 1
            return
        self.done = True
        try:
            mean, std = normalisation(self.loader)
            draw_preview(mixed, target, lam, self.count, self.path, mean, std, class_names(self.loader))
            _logger.info(f'SUMix: mixed images with their labels: {self.path}')
        except Exception as error:  # a picture is not worth a run
            _logger.warning(f'SUMix: no preview: {type(error).__name__}: {error}')


def shows_two_classes(target: MixedTarget) -> bool:
    """Whether some image of a batch shows two classes: one share for a whole batch may be next to nothing."""
    return bool((~target.same_labels & (target.area > LEAST) & (target.area < 1. - LEAST)).any())


def normalisation(loader: Any) -> Tuple[List[float], List[float]]:
    """Return mean and standard deviation of each channel that the loader's images are normalised by, for [0, 1]."""
    if hasattr(loader, 'mean'):  # timm's PrefetchLoader, which normalises pixels of [0, 255] on the device
        colours = slice(-1 if isinstance(inner_loader(loader).dataset, MaskedDataset) else None)
        return _numbers(loader.mean / 255)[colours], _numbers(loader.std / 255)[colours]
    transform = getattr(loader.dataset, 'transform', None)
    for step in getattr(transform, 'transforms', []):
        if isinstance(step, Normalize):
            return _numbers(step.mean), _numbers(step.std)
    raise ValueError(f'the loader must normalise by timm or by torchvision, got {transform}')


def _numbers(values: Any) -> List[float]:
    return torch.as_tensor(values).flatten().tolist()


def class_names(loader: Any) -> Optional[List[str]]:
    """Return the names of the classes: of folders, in words where they are ImageNet's; None if the data has none."""
    index = class_index(loader)
    if index is None:
        return None
    first: Dict[int, str] = {}
    for name, number in index.items():  # torchvision's ImageNet has several names of a class
        first.setdefault(number, name)
    names = [first.get(number, f'class {number}') for number in range(max(first) + 1)]
    info = ImageNetInfo()
    if set(names) <= set(info.label_names()):
        return [info.label_name_to_description(name).split(',')[0] for name in names]
    return names
