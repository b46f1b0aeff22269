"""Whole training steps: SUMixTask at each setting, beside timm's Mixup and ClassificationTask."""
import os
from typing import Any, Callable, Dict, NamedTuple, Sequence

import timm
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.task import ClassificationTask

from timm_sumix import SUMixMixup, SUMixTask
from timm_sumix.options import PRESETS

from .clock import Row, compare, peak_memory

BASE = 'timm'  # CutMix by timm's Mixup and ClassificationTask
# setting: options of SUMixTask
SETTINGS: Dict[str, Dict[str, Any]] = {
    'default': {},
    'evidence': {'ratio': 'evidence'},
    'similarity, gamma 0.5': {'ratio': 'similarity', 'gamma': 0.5},  # with a head
    'no-grad': {'original_pass': 'no-grad'},
    'grad (preset paper)': PRESETS['paper'],
}


class Workload(NamedTuple):
    """What a step works on."""
    model: str  # of timm
    batch_size: int  # number of images in each process
    size: int  # height and width of the images in pixels
    num_classes: int  # number of classes
    device: torch.device
    amp: bool = False  # whether the forward is under autocast to bfloat16
    mode: str = 'batch'  # what mixing draws for: the 'batch', a 'pair', or each 'elem'


def make_step(work: Workload, setting: str) -> Callable[[], None]:
    """Return a training step of BASE or one of SETTINGS, as timm's train.py makes it: mix, forward, backward, SGD."""
    torch.manual_seed(0)
    # a class token's logits cannot be unmixed
    vit = {'dynamic_img_size': True, 'global_pool': 'avg', 'class_token': False}
    kwargs = vit if 'vit' in work.model else {}
    model = timm.create_model(work.model, num_classes=work.num_classes, **kwargs).to(work.device).train()
    images = torch.randn(work.batch_size, 3, work.size, work.size, device=work.device)
    labels = torch.randint(0, work.num_classes, (work.batch_size,), device=work.device)
    mixing = {'mixup_alpha': 0., 'cutmix_alpha': 1., 'num_classes': work.num_classes, 'mode': work.mode}
    if setting == BASE:
        # each mixes as in a user's loop: timm's Mixup before the task, SUMixTask by itself
        mixup = Mixup(**mixing)
        task = ClassificationTask(model, SoftTargetCrossEntropy(), device=work.device, verbose=False)
    else:
        mixup = None
        task = SUMixTask(model, SUMixMixup(**mixing), device=work.device, verbose=False, **SETTINGS[setting])
    if torch.distributed.is_initialized():
        task.prepare_distributed(device_ids=None if work.device.type == 'cpu' else [work.device])
    optimizer = create_optimizer_v2(task.get_trainable_module(), opt='sgd', lr=1e-3, momentum=0.9)

    def step():
        input, target = (images, labels) if mixup is None else mixup(images, labels)
        with torch.autocast(work.device.type, torch.bfloat16, enabled=work.amp):
            loss = task(input, target)['loss']
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(work: Workload, settings: Sequence[str], repeats: int) -> Dict[str, Row]:
    """Return compare_times' figures and 'memory', {setting: row} with BASE first.

    'memory' is the peak of what a step takes, over BASE's. A process of several measures what it waits for too.
    """
    steps = {setting: make_step(work, setting) for setting in (BASE, *settings)}
    rows = compare(steps, BASE, work.device, repeats)
    peaks = {setting: peak_memory(step, work.device) for setting, step in steps.items()}
    return {
        setting: {**row, 'mebibytes': peaks[setting] / 2 ** 20, 'memory': peaks[setting] / peaks[BASE]}
        for setting, row in rows.items()}


def number_of_processes() -> int:
    """Return how many processes torchrun has started, 1 without it."""
    return int(os.environ.get('WORLD_SIZE', 1))


def grow(work: Workload, repeats: int, values: Dict[str, Sequence[int]]) -> Dict[str, Dict[str, Row]]:
    """Return the default's row as one part of the workload takes each of its values: {part: {value: row}}."""
    return {
        part: {
            str(value): measure(work._replace(**{part: value}), ['default'], repeats)['default'] for value in own}
        for part, own in values.items()}
