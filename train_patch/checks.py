"""Whether the script's loss takes mixed labels, and whether the labels of its data fit --num-classes."""
import argparse
import re
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, Optional

import timm.loss
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

from timm_sumix.target import check_range

from .errors import exit_on_user_error, refuse

JSD = 'the loss over augmentation splits takes no mixed labels'
TOO_FEW = '--num-classes must be the number of classes in the data, got {}: {}'


def is_multi_label(args: argparse.Namespace) -> bool:
    """Whether images have several labels, which newer scripts can train with."""
    return getattr(args, 'task', None) == 'multilabel'


def named_criterion(args: argparse.Namespace) -> Optional[Callable]:
    """Return the criterion that the script's flags name, None for its default; exits if it cannot be used."""
    name = getattr(args, 'loss', None)  # of newer scripts, which set it by --bce-loss and --jsd-loss as well
    if name is None:
        return timm.loss.BinaryCrossEntropy() if getattr(args, 'bce_loss', False) or is_multi_label(args) else None
    with exit_on_user_error(f'--sumix cannot be combined with --loss {name}: '):
        if name == 'jsd':
            raise ValueError(JSD)
        criterion = timm.loss.create_classification_loss(name, is_multi_label(args), soft_targets=True)
        check_criterion(criterion, num_classes=2)
    return criterion


def check_criterion(criterion: Callable, num_classes: int, device: Any = None) -> None:
    """Raise ValueError unless the criterion takes soft targets [N, C]."""
    target = torch.full((2, num_classes), 1. / num_classes, device=device)
    try:
        criterion(torch.zeros_like(target), target)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        name = getattr(criterion, '__name__', type(criterion).__name__)
        raise ValueError(f'the loss must take soft targets [N, C], and {name} does not: {error}') from error


def inner_loader(loader: Any) -> Any:
    """Return the torch loader that timm's PrefetchLoader wraps, or the loader itself."""
    return getattr(loader, 'loader', loader)


def loader_among(arguments: Iterable[Any]) -> Optional[Any]:
    """Return the loader among the arguments, torch's or timm's around it."""
    return next((each for each in arguments if isinstance(inner_loader(each), DataLoader)), None)


def class_index(loader: Any) -> Dict[str, int]:
    """Return {class name: number}; empty if the data set has no names, or there is no loader."""
    dataset: Any = getattr(inner_loader(loader), 'dataset', None)
    while isinstance(getattr(dataset, 'dataset', None), Dataset):  # what wraps another, as for masks
        dataset = dataset.dataset
    return getattr(getattr(dataset, 'reader', dataset), 'class_to_idx', None) or {}


def check_classes(loader: Any, num_classes: int) -> None:
    """Exit if the data set names more classes than the model has."""
    highest = max(class_index(loader).values(), default=-1)
    if highest >= num_classes:
        refuse(TOO_FEW.format(num_classes, f'the training data has {highest + 1} classes'))


def check_first_labels(task: nn.Module, num_classes: int) -> None:
    """Have the task check the labels of its first batch wherever they are: later ones are not read from a GPU."""
    def check(_, inputs, named):
        first.remove()
        target = inputs[1] if len(inputs) > 1 else named['target']
        labels = getattr(target, 'labels', target)
        if not labels.is_floating_point():  # else several labels an image
            check_range('labels', labels.cpu(), num_classes)
    first = task.register_forward_pre_hook(check, with_kwargs=True)


@contextmanager
def exit_on_bad_label(num_classes: int) -> Iterator[None]:
    """Exit in one line where the library finds a wrong label, in a loader's worker too."""
    try:
        yield
    except (TypeError, ValueError) as error:
        *_, found = None, *re.finditer(r'(with multi_label, )?labels must (be in \[0, \d+\))?.*', str(error))
        if found is None:
            raise
        refuse(TOO_FEW.format(num_classes, found[0]) if found[2] else found[0])
