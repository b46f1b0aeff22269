"""Means over the samples of an epoch: how far labels moved, and the parts of the loss."""
from typing import Any, Dict, List

import torch

from .target import MixedTarget

PARTS = ('classification', 'uncertainty')  # of the loss
METRICS = ('lam', 'corrected_lam', 'shift', *PARTS)
_MOST = 500  # steps that are kept before they are added up


class Metrics:
    """Sums over samples, kept on the device so that no step waits for it, and equal in all processes once read.

    Attributes:
        not_finite: {part of the loss: the first step, from 0, in which it was not finite}, of what `pop` last read.
    """

    def __init__(self) -> None:
        self.not_finite: Dict[str, int] = {}
        self._begin()

    def _begin(self) -> None:
        self._rows: List[torch.Tensor] = []  # sums of METRICS, one row for each of the latest steps
        self._sums: Any = 0.  # of all steps before
        self._first: Any = torch.inf  # of these, the first in which each of PARTS was not finite
        self._steps = self._count = 0  # their number, and samples of all

    @torch.no_grad()
    def add(self, target: MixedTarget, result: Dict[str, torch.Tensor]) -> None:
        """Add one batch: its target, and what SUMixLoss returned for it."""
        shift = (result['lam'] - target.area).abs() * ~target.same_labels  # where both have one class nothing moves
        parts = [result[part].float().expand(len(target)) for part in PARTS]
        if len(self._rows) == _MOST:
            self._add_up()
        self._rows.append(torch.stack([target.area, result['lam'], shift, *parts]).sum(1))
        self._count += len(target)

    def _add_up(self) -> None:
        rows = torch.stack(self._rows)  # [steps, METRICS]
        steps = torch.arange(self._steps, self._steps + len(rows), device=rows.device, dtype=torch.float32).unsqueeze(1)
        first = torch.where(rows[:, -len(PARTS):].isfinite(), torch.inf, steps).amin(0)
        self._sums, self._first = self._sums + rows.sum(0), first.clamp(max=self._first)
        self._steps, self._rows = self._steps + len(rows), []

    def pop(self) -> Dict[str, float]:
        """Return {name in METRICS: mean over the samples since the last call, of all processes}; empty without any."""
        self.not_finite = {}
        if not self._count:
            return {}
        self._add_up()
        first, totals = self._first, torch.cat([self._sums, self._sums.new_full((1,), self._count)])
        self._begin()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(totals)
            torch.distributed.all_reduce(first, torch.distributed.ReduceOp.MIN)
        self.not_finite = {part: int(step) for part, step in zip(PARTS, first.tolist()) if step < float('inf')}
        *sums, count = totals.tolist()
        return {name: total / count for name, total in zip(METRICS, sums)}
