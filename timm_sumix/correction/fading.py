"""Targets that fade where little of both objects is visible: how much of them a mixed image shows.

Where the mixed image shows hardly anything of either object, no share of two labels is right. There the target fades to
equal probabilities. How much is visible, in units of one object, is read from the evidence: with a pass over the
unmixed images as the visible fraction of each one's evidence, without it by comparing the evidence of each part with
what images of its class have in all.

Soft Augmentation (CVPR 2023, https://arxiv.org/abs/2211.04625) softens targets by the visibility of a crop likewise,
by a fixed curve of the area.
"""
import logging
from typing import Dict, Optional

import torch
import torch.nn as nn

from ..target import HeadOutput, MixedTarget
from .evidence import visible_evidence

_logger = logging.getLogger(__name__)

WINDOW = 320  # samples of each class, over which the totals are averaged


class Fading(nn.Module):
    """Weight of a faded target: 1 where at least a fraction `fade` of one object is visible, less below.

    weight = min(1, visible / fade), visible = e_a / T[y_a] + e_b / T[y_b], where e is the sum of the mixed image's
    evidence over a part, for each cell of the image, and T[c] the running mean of sum(e) / sum(area) over the samples
    of class c: the share of an object that is visible is its share of the area on average. A class not yet seen does
    not fade.

    The totals are equal in all processes of a distributed run; they change with each optimizer step, not within the
    batches that are accumulated for one.

    Args:
        num_classes: Number of classes C.
        fade: Fraction of one object, greater than 0.
        by_totals: Whether class totals tell what is visible, rather than the evidence of the unmixed images. All
            processes must do the same, also one whose batch is not mixed.
    """
    evidence: torch.Tensor
    area: torch.Tensor
    pending: torch.Tensor

    def __init__(self, num_classes: int, fade: float, by_totals: bool = True):
        super().__init__()
        self.fade = fade
        self.by_totals = by_totals
        if not by_totals:
            return
        self.register_buffer('evidence', torch.zeros(num_classes))
        self.register_buffer('area', torch.zeros(num_classes))
        self.register_buffer('pending', torch.zeros(2 * num_classes + 1))  # evidence, area, number of samples

    @torch.no_grad()
    def forward(
            self, mixed: HeadOutput, original: Optional[HeadOutput], target: MixedTarget, new_step: bool = True,
    ) -> torch.Tensor:
        """Return the weight of each sample's target [N], in [0, 1]; in training mode, learn the totals from it.

        Args:
            mixed: Outputs for the mixed images, by class totals with their evidence.
            original: Outputs for the unmixed images, with their evidence where there are no class totals; or None.
            target: The mixed batch. Of a batch that is not mixed nothing is read.
            new_step: Whether the optimizer stepped since the last batch.
        """
        if not self.by_totals:
            return self._weight_by_originals(original, target)
        if self.training and new_step:
            self._fold()
        parts = self._parts(mixed.evidence, target) if target.mixed else None
        if self.training:  # all processes, also one whose batch is not mixed: they wait for each other
            self._add(parts, target)
        if parts is None:
            return torch.ones_like(target.lam)
        totals = self.evidence / self.area.clamp(min=1e-12)
        return self._weight(
            parts[0] / self._total(totals, target.labels) + parts[1] / self._total(totals, target.partner_labels))

    def _weight_by_originals(self, original: Optional[HeadOutput], target: MixedTarget) -> torch.Tensor:
        if not target.mixed:
            return torch.ones_like(target.lam)
        assert original is not None and original.evidence is not None  # the ratio asks for it
        first, second = visible_evidence(original.evidence, target)
        return self._weight(first + second)

    def load_totals(self, state: Optional[Dict[str, torch.Tensor]]) -> None:
        """Load the totals of a checkpoint, which may have none: then they are learned anew."""
        if not self.by_totals:
            return
        if not state:
            _logger.warning('SUMix: the checkpoint has no class totals: targets fade once they are learned anew.')
        else:
            self.load_state_dict(state)

    def _weight(self, visible: torch.Tensor) -> torch.Tensor:
        weight = (visible / self.fade).clamp(max=1.)
        return torch.where(weight.isfinite(), weight, torch.ones_like(weight))

    def _total(self, totals: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the total evidence of each label's class [N]; next to nothing, so that all is visible, if unknown."""
        return totals[labels].clamp(min=1e-12)

    @staticmethod
    def _parts(evidence: Optional[torch.Tensor], target: MixedTarget) -> torch.Tensor:
        """Return the evidence of the first image's and of the partner's part, for each cell of the image [2, N]."""
        assert evidence is not None  # the ratio asks for it
        first, _ = target.visible_fraction((evidence.shape[1], evidence.shape[2]))
        own = (evidence * first).mean((1, 2))  # means, as the grid of cells may differ from batch to batch
        return torch.stack([own, evidence.mean((1, 2)) - own])

    def _add(self, parts: Optional[torch.Tensor], target: MixedTarget) -> None:
        new = torch.zeros_like(self.pending)
        if parts is not None:
            count = len(self.evidence)
            areas = torch.stack([target.area, 1. - target.area])
            usable = parts.isfinite()
            for labels, part, area, use in zip((target.labels, target.partner_labels), parts, areas, usable):
                new[:count].index_add_(0, labels, torch.where(use, part, 0.))
                new[count:2 * count].index_add_(0, labels, torch.where(use, area, 0.))
            new[-1] = len(target)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(new)
        self.pending += new

    def _fold(self) -> None:
        """Move what is pending into the running totals; the more samples it holds, the more of the old is forgotten."""
        count = len(self.evidence)
        kept = (1. - self.pending[-1] / (WINDOW * count)).clamp(min=0.)
        self.evidence.mul_(kept).add_(self.pending[:count])
        self.area.mul_(kept).add_(self.pending[count:2 * count])
        self.pending.zero_()
