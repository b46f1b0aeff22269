"""Means over the samples of an epoch: how far labels moved, and the parts of the loss."""
from typing import Dict, Optional

import torch

from .target import MixedTarget

METRICS = ('lam', 'corrected_lam', 'shift', 'classification', 'uncertainty')
PARTS = ('classification', 'uncertainty')  # of the loss


class Metrics:
    """Sums over samples, kept on the device so that no step waits for it, and equal in all processes once read.

    Attributes:
        not_finite: {part of the loss: the first step, from 0, in which it was not finite}, of what `pop` last read.
    """

    def __init__(self) -> None:
        self._totals: Optional[torch.Tensor] = None
        self._first: Optional[torch.Tensor] = None  # step in which each part was not finite first, else infinity
        self._steps = 0
        self.not_finite: Dict[str, int] = {}

    @torch.no_grad()
    def add(self, target: MixedTarget, result: Dict[str, torch.Tensor]) -> None:
        """Add one batch: its target, and what SUMixLoss returned for it."""
        lam, corrected = target.lam, result['lam']
        count = len(target)
        sums = torch.stack([
            lam.sum(),
            corrected.sum(),
            ((corrected - lam).abs() * (target.labels != target.partner_labels)).sum(),  # of one class nothing moves
            count * result['classification'].float(),
            count * result['uncertainty'],
            lam.new_full((), count),
        ])
        self._totals = sums if self._totals is None else self._totals + sums
        finite = torch.stack([result[part].isfinite() for part in PARTS])
        first = torch.where(finite, float('inf'), float(self._steps))
        self._first = first if self._first is None else torch.minimum(self._first, first)
        self._steps += 1

    def pop(self) -> Dict[str, float]:
        """Return {name in METRICS: mean over the samples since the last call, of all processes}; empty without any."""
        totals, first = self._totals, self._first
        self._totals, self._first, self._steps, self.not_finite = None, None, 0, {}
        if totals is None or first is None:
            return {}
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(totals)
            torch.distributed.all_reduce(first, torch.distributed.ReduceOp.MIN)
        self.not_finite = {part: int(step) for part, step in zip(PARTS, first.tolist()) if step < float('inf')}
        *sums, count = totals.tolist()
        return {name: total / count for name, total in zip(METRICS, sums)}
