"""What the authors' released code computes, but for its division of exponentials, which underflow to 0 / 0.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

    lam_hat = sigmoid(logit(lam) - (D_a - D_b)),   D_a = N * n(softmax(q - p~))[y_a]

in the symbols of formula.py, with n(v) = v / ||v||_2 and the batch size N: a strength that depends on the batch.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .base import Ratio
from .formula import prediction_changes


@dataclass(frozen=True)
class Released(Ratio):
    """The released code's share, see above."""
    needs = ('logits',)
    uses_classes = True
    origin = "what the authors' released code computes"

    def shares(self, mixed, original, target):
        changes = prediction_changes(mixed, original, target, mask_same_label=True)
        first, second = (
            len(target) * F.normalize(change.softmax(dim=-1), dim=-1).gather(1, labels.unsqueeze(1)).squeeze(1)
            for change, labels in zip(changes, (target.labels, target.partner_labels)))
        return torch.sigmoid(torch.logit(target.lam) - (first - second))
