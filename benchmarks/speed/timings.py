"""Times of mixing: medians of interleaved calls in one run, in milliseconds."""
import itertools
import statistics
import time
from typing import Callable, Dict

import numpy as np
import torch
from rich.progress import track
from timm.data import FastCollateMixup, Mixup

from timm_sumix import FastCollateSUMix, SUMixMixup
from timm_sumix.mixing import MODES
from timm_sumix.mixing.policies import POLICIES

NUM_CLASSES = 1000
CHOICES = {
    'mixup': {'mixup_alpha': 1.},
    'cutmix': {'mixup_alpha': 0., 'cutmix_alpha': 1.},
    'mixup + cutmix': {'mixup_alpha': 1., 'cutmix_alpha': 1.},
}


def measure(calls: Dict[str, Callable], device: torch.device, repeats: int) -> Dict[str, float]:
    """Return the median time of each call in ms; the calls take turns, so that a slow moment hits all of them."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in track(range(repeats), description='repeats', transient=True):
        for name, call in calls.items():
            _synchronize(device)
            start = time.perf_counter()
            call()
            _synchronize(device)
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def _synchronize(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def against_timm(x: torch.Tensor, labels: torch.Tensor, repeats: int) -> Dict[str, Dict[str, float]]:
    """Return {'choice, mode': {'timm', 'ours', 'ratio'}} for timm's own choices of policies."""
    calls = {}
    for (choice, kwargs), mode in itertools.product(CHOICES.items(), MODES):
        kwargs = {**kwargs, 'mode': mode, 'num_classes': NUM_CLASSES}
        timms, ours = Mixup(**kwargs), SUMixMixup(**kwargs)
        own = x.clone()  # timm mixes in place
        calls[f'{choice}, {mode} timm'] = lambda timms=timms, own=own: timms(own, labels)
        calls[f'{choice}, {mode} ours'] = lambda ours=ours: ours(x, labels)
    return _pairs(measure(calls, x.device, repeats))


def against_copy(x: torch.Tensor, labels: torch.Tensor, repeats: int) -> Dict[str, Dict[str, float]]:
    """Return {'policy, mode': {'ours', 'of_cutmix', 'of_copy'}}: each policy against CutMix and a copy of the batch."""
    calls = {'copy': lambda: x.clone()}
    for policy, mode in itertools.product(POLICIES, MODES):
        mixup = SUMixMixup(policy=policy, mode=mode, num_classes=NUM_CLASSES)
        calls[f'{policy}, {mode}'] = lambda mixup=mixup: mixup(x, labels)
    times = measure(calls, x.device, repeats)
    copy = times.pop('copy')
    return {
        name: {'ours': ms, 'of_cutmix': ms / times[f'cutmix, {name.split(", ")[1]}'], 'of_copy': ms / copy}
        for name, ms in times.items()}


def collate(size: int, batch_size: int, repeats: int) -> Dict[str, Dict[str, float]]:
    """Return {'collate, elem': {'timm', 'ours', 'ratio'}}: what one loader worker does for a batch."""
    generator = np.random.default_rng(0)
    batch = [
        (generator.integers(0, 256, (3, size, size), dtype=np.uint8), int(label))
        for label in generator.integers(0, NUM_CLASSES, batch_size)]
    kwargs = {'mixup_alpha': 1., 'cutmix_alpha': 1., 'mode': 'elem', 'num_classes': NUM_CLASSES}
    timms, ours = FastCollateMixup(**kwargs), FastCollateSUMix(**kwargs)
    calls = {'collate, elem timm': lambda: timms(batch), 'collate, elem ours': lambda: ours(batch)}
    return _pairs(measure(calls, torch.device('cpu'), repeats))


def _pairs(times: Dict[str, float]) -> Dict[str, Dict[str, float]]:
    names = [name.removesuffix(' timm') for name in times if name.endswith(' timm')]
    return {
        name: {'timm': times[f'{name} timm'], 'ours': times[f'{name} ours'],
               'ratio': times[f'{name} ours'] / times[f'{name} timm']}
        for name in names}


def run(size: int, batch_size: int, device: torch.device, repeats: int) -> Dict[str, Dict[str, Dict[str, float]]]:
    """Return all comparisons at one image size."""
    x = torch.rand(batch_size, 3, size, size, device=device)
    labels = torch.randint(0, NUM_CLASSES, (batch_size,), device=device)
    return {
        'against timm': {**against_timm(x, labels, repeats), **collate(size, batch_size, repeats)},
        'policies': against_copy(x, labels, repeats),
    }
