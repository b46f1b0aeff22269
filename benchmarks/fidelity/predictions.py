"""A few predictions of a probe model in a file, so that a test can score the ratios without training."""
from pathlib import Path
from typing import List

import numpy as np
import torch

from timm_sumix import MixedTarget, ModelOutput

from .probe import BATCH, Answers

PARTS = ('mixed', 'unmixed', 'original')
FIELDS = ('logits', 'features', 'evidence')
# all outputs but the evidence of the mixed images, which no ratio needs
KEPT = [(part, field) for part in PARTS for field in FIELDS if (part, field) != ('mixed', 'evidence')]


def write_predictions(path: Path, batches: List[Answers]) -> None:
    """Save a probe model's outputs for a few batches, with masks and truth, without images."""
    masks = torch.cat([batch.target.mask for batch in batches])
    np.savez_compressed(
        path, mask=np.packbits(masks.numpy()), mask_shape=np.array(masks.shape), batch_size=np.array(BATCH),
        labels=torch.cat([batch.target.labels for batch in batches]).byte().numpy(),
        true=torch.cat([batch.true for batch in batches]).numpy(),
        **{f'{part}_{field}': torch.cat([getattr(getattr(batch, part), field) for batch in batches]).half().numpy()
           for part, field in KEPT})


def read_predictions(path: Path) -> List[Answers]:
    """Return the batches that write_predictions saved."""
    saved, batches = np.load(path), []
    shape, step = tuple(saved['mask_shape']), int(saved['batch_size'])
    mask = torch.from_numpy(np.unpackbits(saved['mask'], count=int(np.prod(shape))).reshape(shape)).bool()
    for rows in (slice(start, start + step) for start in range(0, len(mask), step)):
        names = ['true', *(f'{part}_{field}' for part, field in KEPT)]
        own = {name: torch.from_numpy(saved[name][rows]).float() for name in names}
        target = MixedTarget(
            torch.from_numpy(saved['labels'][rows]).long(), mask[rows].float().mean((1, 2, 3)), 10, mask=mask[rows])
        outputs = (
            ModelOutput(**{field: own[f'{part}_{field}'] for kept, field in KEPT if kept == part}) for part in PARTS)
        batches.append(Answers(*outputs, target, own['true']))
    return batches
