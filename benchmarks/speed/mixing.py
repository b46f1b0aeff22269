"""Mixing alone: beside other libraries, and each policy beside CutMix."""
import itertools
from functools import partial
from typing import Dict

import torch
from timm.data import Mixup
from torchvision.transforms import v2

from timm_sumix import SUMixMixup
from timm_sumix.mixing import MODES
from timm_sumix.mixing.policies import POLICIES

from .clock import Row, compare

NUM_CLASSES = 1000
CHOICES = {
    'mixup': {'mixup_alpha': 1.},
    'cutmix': {'mixup_alpha': 0., 'cutmix_alpha': 1.},
    'mixup + cutmix': {'mixup_alpha': 1., 'cutmix_alpha': 1.},
}
TORCHVISION = {'mixup': v2.MixUp, 'cutmix': v2.CutMix}


def mixing(x: torch.Tensor, labels: torch.Tensor, repeats: int) -> Dict[str, Row]:
    """Return SUMixMixup's time over timm's and torchvision v2's: {'cutmix, batch over timm': row}."""
    rows = {}
    for (choice, kwargs), mode in itertools.product(CHOICES.items(), MODES):
        kwargs = {**kwargs, 'mode': mode, 'num_classes': NUM_CLASSES}
        ours, own = SUMixMixup(**kwargs), x.clone()  # timm mixes in place
        others = {'timm': (Mixup(**kwargs), own)}
        if mode == 'batch' and choice in TORCHVISION:
            others['torchvision'] = TORCHVISION[choice](alpha=1., num_classes=NUM_CLASSES), x
        for name, (other, images) in others.items():
            calls = {'ours': partial(ours, x, labels), name: partial(other, images, labels)}
            rows[f'{choice}, {mode} over {name}'] = compare(calls, name, x.device, repeats)['ours']
    return rows


def policies(x: torch.Tensor, labels: torch.Tensor, repeats: int) -> Dict[str, Row]:
    """Return each policy's time over CutMix's in the same mode: {'fmix, elem': row}."""
    rows = {}
    for mode in MODES:
        mixups = {
            f'{policy}, {mode}': SUMixMixup(policy=policy, mode=mode, num_classes=NUM_CLASSES) for policy in POLICIES}
        calls = {name: partial(mixup, x, labels) for name, mixup in mixups.items()}
        rows.update(compare(calls, f'cutmix, {mode}', x.device, repeats))
    return rows
