"""Means over the samples of an epoch: how far labels moved, and the parts of the loss."""
from typing import Dict, Optional

import torch

from .target import MixedTarget

METRICS = ('lam', 'corrected_lam', 'shift', 'classification', 'uncertainty')


class Metrics:
    """Sums over samples, kept on the device so that no step waits for it, and equal in all processes once read."""

    def __init__(self) -> None:
        self._totals: Optional[torch.Tensor] = None

    @torch.no_grad()
    def add(self, target: MixedTarget, result: Dict[str, torch.Tensor]) -> None:
        """Add one batch: its target, and what SUMixLoss returned for it."""
        lam, corrected = target.lam, result['lam']
        count = len(target)
        sums = torch.stack([
            lam.sum(),
            corrected.sum(),
            (corrected - lam).abs().sum(),
            count * result['classification'].float(),
            count * result['uncertainty'],
            torch.full_like(lam[0], count),
        ])
        self._totals = sums if self._totals is None else self._totals + sums

    def pop(self) -> Dict[str, float]:
        """Return {name in METRICS: mean over the samples since the last call, of all processes}; empty without any."""
        totals, self._totals = self._totals, None
        if totals is None:
            return {}
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(totals)
        *sums, count = totals.tolist()
        return {name: total / count for name, total in zip(METRICS, sums)}
