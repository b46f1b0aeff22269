"""A few predictions of a probe model in a file, so that a test can score the ratios without training."""
from pathlib import Path
from typing import List

import numpy as np
import torch

from timm_sumix import MixedTarget, ModelOutput

from .probe import BATCH, Answers

PARTS = ('mixed', 'unmixed', 'original')
FIELDS = ('logits', 'features', 'evidence')


def write_predictions(path: Path, batches: List[Answers]) -> None:
    """Save a probe model's outputs for a few batches, with masks and truth, without images."""
    def join(values):
        return torch.cat(values).half().numpy()

    masks = torch.cat([batch.target.mask for batch in batches])
    np.savez_compressed(
        path,
        **{f'{part}_{field}': join([getattr(getattr(batch, part), field) for batch in batches])
           for part in PARTS for field in FIELDS},
        mask=np.packbits(masks.numpy()), mask_shape=np.array(masks.shape),
        labels=torch.cat([batch.target.labels for batch in batches]).byte().numpy(),
        true=torch.cat([batch.true for batch in batches]).numpy(), batch_size=np.array(BATCH))


def read_predictions(path: Path) -> List[Answers]:
    """Return the batches that write_predictions saved."""
    saved = np.load(path)
    shape = tuple(saved['mask_shape'])
    mask = torch.from_numpy(np.unpackbits(saved['mask'], count=int(np.prod(shape))).reshape(shape)).bool()
    batches = []
    for start in range(0, len(mask), int(saved['batch_size'])):
        rows = slice(start, start + int(saved['batch_size']))

        def tensor(name, rows=rows):
            return torch.from_numpy(saved[name][rows]).float()

        target = MixedTarget(
            torch.from_numpy(saved['labels'][rows]).long(), mask[rows].float().mean((1, 2, 3)), 10, mask=mask[rows])
        outputs = (ModelOutput(**{field: tensor(f'{part}_{field}') for field in FIELDS}) for part in PARTS)
        batches.append(Answers(*outputs, target, tensor('true')))
    return batches
