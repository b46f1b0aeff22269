"""Whether the script's loss takes mixed labels: by the flags, and when the script has made it."""
import argparse
from typing import Any, Callable, Optional

import timm.loss
import torch

JSD = 'the loss over augmentation splits takes no mixed labels'


def named_criterion(args: argparse.Namespace) -> Optional[Callable]:
    """Return the criterion that the script's flags name, None for its default; ValueError if it cannot be used."""
    name = getattr(args, 'loss', None)  # of newer scripts, which set it by --bce-loss and --jsd-loss as well
    if name is None:
        return timm.loss.BinaryCrossEntropy() if getattr(args, 'bce_loss', False) or is_multi_label(args) else None
    if name == 'jsd':
        raise ValueError(f'cannot be combined with --loss jsd: {JSD}')
    try:
        criterion = timm.loss.create_classification_loss(name, is_multi_label(args), soft_targets=True)
        check_criterion(criterion, num_classes=2)
    except ValueError as error:
        raise ValueError(f'cannot be combined with --loss {name}: {error}') from error
    return criterion


def is_multi_label(args: argparse.Namespace) -> bool:
    """Whether images have several labels, which newer scripts can train with."""
    return getattr(args, 'task', None) == 'multilabel'


def check_criterion(criterion: Callable, num_classes: int, device: Any = None) -> None:
    """Raise ValueError unless the criterion takes soft targets [N, C]."""
    target = torch.full((2, num_classes), 1. / num_classes, device=device)
    try:
        criterion(torch.zeros_like(target), target)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        name = getattr(criterion, '__name__', type(criterion).__name__)
        raise ValueError(f'the loss must take soft targets [N, C], and {name} does not: {error}') from error
