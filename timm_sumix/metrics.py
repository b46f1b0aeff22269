"""Means over the samples of an epoch: how far labels moved, and the parts of the loss."""
from typing import Dict, List

import torch

from .target import MixedTarget

METRICS = ('lam', 'corrected_lam', 'shift', 'classification', 'uncertainty')
PARTS = ('classification', 'uncertainty')  # of the loss, last among METRICS


class Metrics:
    """Means of each step, kept on the device so that no step waits for it, and equal in all processes once read.

    Attributes:
        not_finite: {part of the loss: the first step, from 0, in which it was not finite}, of what `pop` last read.
    """

    def __init__(self) -> None:
        self._rows: List[torch.Tensor] = []  # of METRICS, one for each step
        self._counts: List[int] = []  # of its samples
        self.not_finite: Dict[str, int] = {}

    @torch.no_grad()
    def add(self, target: MixedTarget, result: Dict[str, torch.Tensor]) -> None:
        """Add one batch: its target, and what SUMixLoss returned for it."""
        lam, corrected = target.lam, result['lam']
        shift = (corrected - lam).abs() * (target.labels != target.partner_labels)  # of one class nothing moves
        parts = torch.stack([result[part].float() for part in PARTS])
        self._rows.append(torch.cat([torch.stack([lam, corrected, shift]).mean(1), parts]))
        self._counts.append(len(target))

    def pop(self) -> Dict[str, float]:
        """Return {name in METRICS: mean over the samples since the last call, of all processes}; empty without any."""
        if not self._rows:
            return {}
        rows = torch.stack(self._rows)  # [steps, METRICS]
        counts = torch.tensor(self._counts, dtype=rows.dtype, device=rows.device)
        self._rows, self._counts = [], []
        totals = torch.cat([(counts.unsqueeze(1) * rows).sum(0), counts.sum()[None]])
        steps = torch.arange(len(rows), device=rows.device).unsqueeze(1).expand(-1, len(PARTS))
        first = torch.where(rows[:, -len(PARTS):].isfinite(), torch.inf, steps).amin(0)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(totals)
            torch.distributed.all_reduce(first, torch.distributed.ReduceOp.MIN)
        self.not_finite = {part: int(step) for part, step in zip(PARTS, first.tolist()) if step < float('inf')}
        *sums, count = totals.tolist()
        return {name: total / count for name, total in zip(METRICS, sums)}
