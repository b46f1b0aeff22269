"""Asking a network about mixed images."""
from typing import Dict, List, NamedTuple, Tuple

import torch

from timm_sumix import MixedTarget, ModelOutput, Ratio
from timm_sumix.passes import SUMixModule

from ..labels.truth import true_shares
from .kinds import Asked

BATCH = 128


class _Everything(Ratio):
    """Reads all that a model tells: the same outputs then serve every ratio."""


class Answers(NamedTuple):
    """One mixed batch as a network sees it."""
    mixed: ModelOutput  # outputs for the mixed images
    unmixed: ModelOutput  # outputs for the unmixed images, unmixed from the same pass
    original: ModelOutput  # outputs for the unmixed images, of a second pass
    target: MixedTarget  # the batch's MixedTarget
    true: torch.Tensor  # true shares of the first images [N], NaN where neither object is visible


@torch.no_grad()
def ask(asked: Asked, seed: int) -> Tuple[List[Answers], Dict[str, List[torch.Tensor]]]:
    """Mix the images in batches of 128, drawn by a seed, and ask the network and the labellers about them.

    Returns:
        The answers for each batch, which serve every ratio, strength and power, and {labeller: shares of each batch}.
    """
    model, data, mixup, labellers, _ = asked
    torch.manual_seed(seed)
    one, two = (SUMixModule(model, _Everything(), original_pass=made) for made in ('none', 'no-grad'))
    for module in (one, two):
        module.prepare(data.images)
    batches, shares = [], {name: [] for name in labellers}
    for images, labels, masks in zip(*(part.split(BATCH) for part in (data.images, data.labels, data.masks))):
        mixed, target = mixup(images, labels)
        answers = (*one(mixed, None, target.mixing), two(mixed, target.original)[1])
        batches.append(Answers(*answers, target, true_shares(masks, target)))
        for name, labeller in labellers.items():
            shares[name].append(labeller(model, mixed, target, masks))
    return batches, shares
