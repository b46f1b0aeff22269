"""Parts of a step alone: mixing, collating, and the loss."""
import itertools
from importlib.util import find_spec
from typing import Callable, Dict

import numpy as np
import torch
from timm.data import FastCollateMixup, Mixup
from timm.loss import SoftTargetCrossEntropy
from torchvision.transforms import v2

from timm_sumix import FastCollateSUMix, MixedTarget, ModelOutput, SUMixLoss, SUMixMixup
from timm_sumix.mixing import MODES
from timm_sumix.mixing.policies import POLICIES

from .clock import Row, compare

NUM_CLASSES = 1000
PLAIN = 'cross-entropy'
CHOICES = {
    'mixup': {'mixup_alpha': 1.},
    'cutmix': {'mixup_alpha': 0., 'cutmix_alpha': 1.},
    'mixup + cutmix': {'mixup_alpha': 1., 'cutmix_alpha': 1.},
}


def mixing(x: torch.Tensor, labels: torch.Tensor, repeats: int) -> Dict[str, Row]:
    """Return SUMixMixup's time over timm's, torchvision v2's and kornia's: {'cutmix, batch over timm': row}.

    Args:
        x: Images [N, 3, H, W].
        labels: Their labels [N].
        repeats: Number of turns.
    """
    rows = {}
    for (choice, kwargs), mode in itertools.product(CHOICES.items(), MODES):
        kwargs = {**kwargs, 'mode': mode, 'num_classes': NUM_CLASSES}
        ours, own = SUMixMixup(**kwargs), x.clone()  # timm mixes in place
        calls = {'ours': lambda ours=ours: ours(x, labels)}
        timms = Mixup(**kwargs)
        calls['timm'] = lambda timms=timms, own=own: timms(own, labels)
        if mode == 'batch' and choice != 'mixup + cutmix':
            others = {'torchvision': _torchvision, **({'kornia': _kornia} if find_spec('kornia') else {})}
            calls.update({name: make(choice, x, labels) for name, make in others.items()})
        rows.update(_over_each(f'{choice}, {mode}', calls, x.device, repeats))
    return rows


def _over_each(name: str, calls: Dict[str, Callable], device: torch.device, repeats: int) -> Dict[str, Row]:
    return {
        f'{name} over {other}': compare({'ours': calls['ours'], other: call}, other, device, repeats)['ours']
        for other, call in calls.items() if other != 'ours'}


def _torchvision(choice: str, x: torch.Tensor, labels: torch.Tensor) -> Callable:
    mix = (v2.CutMix if choice == 'cutmix' else v2.MixUp)(alpha=1., num_classes=NUM_CLASSES)
    return lambda: mix(x, labels)


def _kornia(choice: str, x: torch.Tensor, labels: torch.Tensor) -> Callable:
    from kornia.augmentation import RandomCutMixV2, RandomMixUpV2

    # its labels are pairs with their shares, not soft targets
    mix = (RandomCutMixV2 if choice == 'cutmix' else RandomMixUpV2)(data_keys=['input', 'class'])
    return lambda: mix(x, labels)


def policies(x: torch.Tensor, labels: torch.Tensor, repeats: int) -> Dict[str, Row]:
    """Return each policy's time over CutMix's in the same mode: {'fmix, elem': row}."""
    rows = {}
    for mode in MODES:
        mixups = {
            f'{policy}, {mode}': SUMixMixup(policy=policy, mode=mode, num_classes=NUM_CLASSES) for policy in POLICIES}
        calls = {name: lambda mixup=mixup: mixup(x, labels) for name, mixup in mixups.items()}
        rows.update(compare(calls, f'cutmix, {mode}', x.device, repeats))
    return rows


def collate(batch_size: int, size: int, repeats: int) -> Row:
    """Return FastCollateSUMix's time over timm's FastCollateMixup: what one loader worker does for a batch."""
    generator = np.random.default_rng(0)
    batch = [
        (generator.integers(0, 256, (3, size, size), dtype=np.uint8), int(label))
        for label in generator.integers(0, NUM_CLASSES, batch_size)]
    kwargs = {'mixup_alpha': 1., 'cutmix_alpha': 1., 'mode': 'elem', 'num_classes': NUM_CLASSES}
    timms, ours = FastCollateMixup(**kwargs), FastCollateSUMix(**kwargs)
    return compare(
        {'timm': lambda: timms(batch), 'ours': lambda: ours(batch)}, 'timm', torch.device('cpu'), repeats)['ours']


def loss(device: torch.device, repeats: int, batch_size: int = 256, num_classes: int = NUM_CLASSES) -> Dict[str, Row]:
    """Return the time of SUMixLoss with its ratio, forward and backward, over that of soft-target cross-entropy alone.

    Args:
        device: Where.
        repeats: Number of turns.
        batch_size: N.
        num_classes: C.
    """
    logits = torch.randn(batch_size, num_classes, device=device, requires_grad=True)
    output = ModelOutput(
        logits, None, torch.randn(batch_size, 512, device=device), torch.rand(batch_size, 7, 7, device=device))
    settings = {
        'default': {}, 'evidence': {'ratio': 'evidence'}, 'fade 0.6': {'fade': 0.6},
        'similarity': {'ratio': 'similarity'}}
    criteria = {name: SUMixLoss(**options).to(device) for name, options in settings.items()}
    calls = {}
    for mode in ('batch', 'elem'):  # one mask for all images, or one for each
        mixup = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode=mode, num_classes=num_classes)
        images = torch.rand(batch_size, 3, 224, 224, device=device)
        target = mixup(images, torch.randint(0, num_classes, (batch_size,), device=device))[1]
        calls.update({
            f'{name}, {mode}': lambda criterion=criterion, target=target: _loss(criterion, output, target)
            for name, criterion in criteria.items()})
    plain, soft_target = SoftTargetCrossEntropy(), target.soft_target(target.lam)
    calls[PLAIN] = lambda: plain(logits, soft_target).backward()
    return compare(calls, PLAIN, device, repeats)


def _loss(criterion: SUMixLoss, output: ModelOutput, target: MixedTarget) -> None:
    target = target.to(target.lam.device)  # a new one, which has not averaged its masks yet
    criterion(output, output, target)['loss'].backward()
