"""What the script's training data tells of its classes, and whether --num-classes fits it."""
import re
import sys
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, NoReturn, Optional

import torch.nn as nn
from torch.utils.data import DataLoader, Dataset


def loader_among(arguments: Iterable[Any]) -> Optional[Any]:
    """Return the loader among the arguments of the script's train_one_epoch, torch's or timm's around it."""
    return next((each for each in arguments if isinstance(inner_loader(each), DataLoader)), None)


def inner_loader(loader: Any) -> Any:
    """Return the torch loader that timm's PrefetchLoader wraps, or the loader itself."""
    return getattr(loader, 'loader', loader)


def class_index(loader: Any) -> Optional[Dict[str, int]]:
    """Return the numbers of the classes by their names; None if the data set does not tell."""
    dataset = inner_loader(loader).dataset
    while isinstance(getattr(dataset, 'dataset', None), Dataset):  # what wraps another, as for masks
        dataset = dataset.dataset
    index = getattr(getattr(dataset, 'reader', None), 'class_to_idx', None) or getattr(dataset, 'class_to_idx', None)
    return index or None


def check_classes(loader: Any, num_classes: int) -> None:
    """Exit if the data set tells of more classes than the model has."""
    index = None if loader is None else class_index(loader)
    if index and max(index.values()) >= num_classes:
        _refuse(num_classes, f'the training data has {max(index.values()) + 1} classes')


def check_first_labels(task: nn.Module, num_classes: int) -> None:
    """Have the task exit if a label of its first batch is out of range. Later ones are not read from a GPU."""
    def check(_, inputs, named):
        first.remove()
        target = inputs[1] if len(inputs) > 1 else named['target']
        labels = getattr(target, 'labels', target)
        if labels.is_floating_point():  # several labels an image
            return
        lowest, highest = labels.min().item(), labels.max().item()
        if lowest < 0 or highest >= num_classes:
            _refuse(num_classes, f'a batch has labels from {lowest} to {highest}')
    first = task.register_forward_pre_hook(check, with_kwargs=True)


@contextmanager
def label_errors_told(num_classes: int) -> Iterator[None]:
    """Exit by the name of the flag where the library finds a label out of range, in a loader's worker too."""
    try:
        yield
    except ValueError as error:
        found = re.search(r'labels must be in \[.*', str(error))
        if found:
            _refuse(num_classes, found.group())
        raise


def _refuse(num_classes: int, reason: str) -> NoReturn:
    sys.exit(f'train_patch: --num-classes must be the number of classes in the data, got {num_classes}: {reason}')
