"""Labels as a loader gives them: classes [N], or which of the classes an image has [N, C]."""
from typing import Optional

import torch


def check_labels(labels: torch.Tensor, num_classes: int, multi_label: bool = False) -> None:
    """Raise TypeError or ValueError unless `labels` is a vector of classes [N], or with multi_label labels [N, C]."""
    is_tensor = isinstance(labels, torch.Tensor)
    got = f'{labels.dtype} {list(labels.shape)}' if is_tensor else type(labels).__name__
    if multi_label:
        if not is_tensor or not labels.is_floating_point():
            raise TypeError(f'with multi_label, labels must be a floating point tensor [N, {num_classes}], got {got}')
        if labels.ndim != 2 or labels.shape[1] != num_classes:
            raise ValueError(f'with multi_label, labels must have shape [N, {num_classes}], got {list(labels.shape)}')
        check_range('with multi_label, labels', labels)
        return
    if not is_tensor or labels.dtype != torch.int64:
        remedy = 'use labels.long()' if is_tensor and not labels.is_floating_point() else (
            'a soft target, as timm.data.Mixup makes, cannot be corrected: leave mixing to SUMixMixup, or to SUMixTask')
        raise TypeError(f'labels must be an int64 tensor of class indices [N], got {got}; {remedy}')
    if labels.ndim != 1:
        raise ValueError(f'labels must have shape [N], one class for each image, got {list(labels.shape)}')
    check_range('labels', labels, num_classes)


def check_range(name: str, values: torch.Tensor, end: Optional[int] = None) -> None:
    """Raise ValueError unless all `values` that lie on the CPU are in [0, end), or without an end in [0, 1]."""
    if values.device.type == 'cpu' and values.numel():
        least, greatest = (bound.item() for bound in values.aminmax())
        if not (least >= 0 and (greatest <= 1 if end is None else greatest < end)):  # nor NaN
            bounds = '[0, 1]' if end is None else f'[0, {end})'
            raise ValueError(f'{name} must be in {bounds}, got values from {least} to {greatest}')


def check_smoothing(smoothing: float) -> None:
    """Raise ValueError unless `smoothing` is in [0, 1)."""
    if not 0. <= smoothing < 1.:
        raise ValueError(f'label smoothing must be in [0, 1), got {smoothing}')
