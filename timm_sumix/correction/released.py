"""What the authors' released code computes, but for its division of exponentials, which underflow to 0 / 0.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

In the symbols of formula.py, and n(v) = v / ||v||_2:

    lam_hat = sigmoid(logit(lam) - (D_a - D_b)),   D_a = N * n(softmax(q - p~))[y_a]

N is the batch size: a strength that depends on the batch.
"""
from dataclasses import dataclass

import torch.nn.functional as F

from .base import Ratio
from .formula import prediction_changes


@dataclass(frozen=True)
class Released(Ratio):
    """D_a = N * n(softmax(q - p~))[y_a]."""
    needs = ('logits',)
    uses_classes = True
    origin = "what the authors' released code computes"

    def distances(self, mixed, original, target):
        """Return D_a and D_b [N]."""
        first, second = (
            len(target) * F.normalize(change.softmax(dim=-1), dim=-1)
            for change in prediction_changes(mixed, original, target, mask_same_label=True))
        return (
            first.gather(1, target.labels.unsqueeze(1)).squeeze(1),
            second.gather(1, target.partner_labels.unsqueeze(1)).squeeze(1))
