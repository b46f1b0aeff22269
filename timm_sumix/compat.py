"""What differs among timm's versions and among its models, each with the reason."""
from typing import Any, Callable, Dict, Optional

import timm.loss
import torch.nn as nn
import torch.nn.functional as F


def create_criterion(
        criterion: Optional[Callable], criterion_kwargs: Optional[Dict[str, Any]], multi_label: bool = False,
) -> Optional[Callable]:
    """Return the criterion, made from criterion_kwargs as newer timm describes it; ValueError if both are given."""
    if not criterion_kwargs:
        # smoothing is the mixing's
        return timm.loss.BinaryCrossEntropy(smoothing=0.) if criterion is None and multi_label else criterion
    if criterion is not None:
        raise ValueError('either criterion or criterion_kwargs must be given, got both')
    from timm.loss import create_classification_loss  # timm 1.0.27 and 1.0.28 have neither it nor this argument
    return create_classification_loss(multi_label=multi_label, **criterion_kwargs)


def is_softmax(criterion: Callable) -> bool:
    """Whether a criterion expects exactly one class an image."""
    names = ('SoftTargetCrossEntropy', 'LabelSmoothingCrossEntropy', 'PolyCrossEntropy', 'AsymmetricLossSingleLabel')
    losses = [getattr(timm.loss, name) for name in names if hasattr(timm.loss, name)]  # those that this timm has
    return criterion is F.cross_entropy or isinstance(criterion, (nn.CrossEntropyLoss, *losses))


def check_model(model: nn.Module, needs_parts: bool) -> None:
    """Raise TypeError for what wraps a model, or one without the parts that are needed."""
    name = type(model).__name__
    if hasattr(model, '_orig_mod'):
        raise TypeError(f'model must be the model itself, got one compiled ({name}): use task.compile()')
    if not isinstance(model, nn.Module) or hasattr(model, 'get_eval_model'):
        raise TypeError(f'model must be a timm model, got {name} (of a task, give task.get_eval_model())')
    if isinstance(getattr(model, 'module', None), nn.Module) and not hasattr(model, 'forward_features'):
        raise TypeError(f'model must be the model itself, got {name} around it: give its .module')
    missing = [part for part in ('forward_features', 'forward_head') if not hasattr(model, part)]
    if missing and needs_parts:
        raise TypeError(
            f"{name} lacks {missing}: give it both, as docs/examples/with_torchvision.py does in eight lines, or use "
            "ratio 'similarity' with original_pass 'no-grad'")


def check_hooks(model: nn.Module) -> None:
    """Raise ValueError if the model itself has hooks, which only a call of it would run."""
    if any(getattr(model, f'_{kind}_hooks') for kind in ('forward', 'forward_pre', 'backward', 'backward_pre')):
        raise ValueError(
            f'{type(model).__name__} has hooks of its own, which would be left out: put them on modules inside it')
