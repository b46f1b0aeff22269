"""Each epoch's seeds, and its line in the log."""
from typing import Any, Dict, Iterable

import torch
from timm.utils import random_seed
from torch.utils.data import DataLoader

from timm_sumix import SUMixTask

from .checks import inner_loader
from .errors import logger
from .masks import MaskedMixup

EPOCH_SEEDS = 100_003  # between the seeds of one epoch and the next: more than there are processes or seeds


def seed_epoch(epoch: int, seed: int, rank: int, arguments: Iterable[Any], generator: torch.Generator) -> None:
    """Make an epoch's draws depend on seed, epoch and process alone: a resumed run repeats an uninterrupted one."""
    seed = (seed + EPOCH_SEEDS * (epoch + 1)) % (2 ** 32 - EPOCH_SEEDS)  # NumPy's end at 2 ** 32
    for loader in map(inner_loader, arguments):
        if isinstance(loader, DataLoader) and loader.generator in (None, generator):
            loader.generator = generator.manual_seed(seed + rank)  # the global one is left alone by the workers
            loader._iterator = None  # persistent workers were seeded in an earlier epoch: new ones start
    random_seed(seed, rank)


def report(epoch: int, metrics: Dict[str, Any], task: SUMixTask) -> None:
    """Log how far labels moved, and add it to the metrics, which the script writes to its summary."""
    means = task.pop_metrics()
    if not means:
        return
    with_mask, total = task.mixup.pop_counts() if isinstance(task.mixup, MaskedMixup) else (0, 0)
    if total:
        means['masks'] = with_mask / total
    metrics.update({f'sumix_{name}': value for name, value in means.items()})
    if not task.verbose:  # the script makes only the first process verbose
        return
    for part, step in task.metrics.not_finite.items():
        logger.warning(
            f'SUMix: in epoch {epoch} the {part} loss was not finite, first in step {step}: images or weights are '
            'NaN or too large; try a lower --lr, --clip-grad, or --amp-dtype bfloat16.')
    gamma = task.criterion.options.gamma
    term = f' + {gamma:g} * {means["uncertainty"]:#.3g} (classification + gamma * uncertainty)' if gamma else ''
    logger.info(
        f"SUMix: epoch {epoch}  first image's share {means['lam']:.3f} -> {means['corrected_lam']:.3f}, labels moved "
        f"by {means['shift']:.3f} on average  Loss: {means['classification']:#.3g}{term}")
    if total:
        logger.info(f'SUMix: epoch {epoch}  {with_mask:,} of {total:,} images had a mask of their object')
