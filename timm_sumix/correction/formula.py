"""The corrected share of each label in a mixed image: one formula with three weights.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

    lam_hat = sigmoid(l + w (e - l) + s r + k c)

    l = logit(lam)                        log-odds of the share by area
    e = log(v_a / v_b)                    log-odds of the visible evidence: v_a, v_b are the visible fractions of the
                                          evidence of both images
    r = ||q - p~'||_2 - ||q - p~||_2      how much nearer the mixture's prediction is to the first image's
    c = cos(f_mix, f) - cos(f_mix, f')    the same of the features: means of the last feature map

p, p' and q are the softmax of the logits of the first image, its partner and their mixture; p~ is p without class y_b,
p~' is p' without class y_a. In log-odds the share stays exact at lam = 0 and 1, and weights of 0 are CutMix's label.

The paper's printed equations were not at hand. r is the comparison that its abstract describes, in the form of the
authors' released code with its sign mended; e and c are this library's own.
"""
import math
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F

from ..target import MixedTarget, ModelOutput
from .base import Ratio
from .evidence import visible_evidence

# name: (w, s, k); a strength takes the place of s, or of k where s is 0
WEIGHTS: Dict[str, Tuple[float, float, float]] = {
    'combined': (1., 4., 0.),
    'evidence': (1., 0., 1.),
    'visible': (0.5, 0., 0.),
    'feature': (0., 0., 8.),
    'similarity': (0., 2., 0.),
    'area': (0., 0., 0.),
}


def check_weights(weights: Sequence[Any]) -> None:
    """Raise ValueError if these are not three weights (w, s, k)."""
    are_numbers = all(isinstance(weight, (int, float)) and not isinstance(weight, bool) for weight in weights)
    if len(weights) != 3 or not are_numbers or weights[0] > 1 or not all(0 <= weight < math.inf for weight in weights):
        raise ValueError(
            f'weights of a ratio must be three numbers (w, s, k), 0 or greater, w at most 1, got {tuple(weights)}')


def prediction_changes(
        mixed: ModelOutput, original: ModelOutput, target: MixedTarget, mask_same_label: bool = False,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return how the mixture's prediction differs from each image's own: q - p~ and q - p~' [N, C], without gradient.

    With mask_same_label the partner's class is removed even where it is the image's own, as the authors' code does.
    """
    q = mixed.logits.detach().float().softmax(dim=-1)
    p = original.logits.detach().float().softmax(dim=-1)
    labels, partner_labels = target.labels.unsqueeze(1), target.partner_labels.unsqueeze(1)
    keep = torch.zeros_like(labels, dtype=torch.bool) if mask_same_label else labels == partner_labels
    first = torch.where(keep, p, p.scatter(1, partner_labels, 0.))
    partner = target.partner(p)
    second = torch.where(keep, partner, partner.scatter(1, labels, 0.))
    return q - first, q - second


@dataclass(frozen=True)
class Formula(Ratio):
    """lam_hat = sigmoid(l + w (e - l) + s r + k c), see above.

    With evidence and without logits (of a class token) it is `evidence`. With evidence, no prediction is compared where
    the map has a single place; and where a policy shows the partner whole at a smaller size (ResizeMix), nothing is.
    """
    w: float  # weight of the evidence against the area, in [0, 1]
    s: float  # of the predictions, 0 or greater
    k: float  # of the features, 0 or greater

    def __post_init__(self):
        check_weights(self.weights)
        reads = {'logits': self.s, 'features': self.k, 'evidence': self.w}
        parts = {'where the object is': self.w, 'what the model recognises': self.s, "the images' features": self.k}
        vars(self).update(  # frozen
            needs=tuple(field for field, weight in reads.items() if weight > 0),
            uses_classes=self.s > 0,
            origin=' and '.join(part for part, weight in parts.items() if weight > 0) or "nothing: CutMix's own")

    @property
    def weights(self) -> Tuple[float, float, float]:
        """(w, s, k)."""
        return self.w, self.s, self.k

    @property
    def name(self) -> str:
        """The name of these weights, or the weights themselves."""
        return str(self).split(' (')[0]

    def __str__(self) -> str:
        named = [f'{name} ' for name, own in WEIGHTS.items() if own == self.weights]
        return ''.join(named) + '({:g}, {:g}, {:g})'.format(*self.weights)

    def __call__(self, mixed: ModelOutput, original: Optional[ModelOutput], target: MixedTarget) -> torch.Tensor:
        if self.s > 0 and original is not None and original.logits is None and original.evidence is not None:
            return _EVIDENCE(mixed, original, target)
        return super().__call__(mixed, original, target)

    def shares(self, mixed, original, target):
        if not self.needs:
            return target.lam
        nearer = 0.  # s r + k c
        if self.s > 0 and not (self.w > 0 and original.evidence.shape[1:] == (1, 1)):  # no map
            first, second = prediction_changes(mixed, original, target)
            nearer = self.s * (second.norm(dim=-1) - first.norm(dim=-1))
        if self.k > 0:
            f_mix, f = F.normalize(torch.stack([mixed.features, original.features]).detach().float(), dim=-1)
            nearer = nearer + self.k * (f_mix * (f - target.partner(f))).sum(-1)
        if self.w == 0:
            return torch.sigmoid(torch.logit(target.lam) + nearer)
        if target.mixing is None:
            raise ValueError('the evidence needs the mask that the images were mixed by, got target.mask None')
        in_place = target.mixing.partner_in_place((original.evidence.shape[1], original.evidence.shape[2]))
        if in_place is not None:
            nearer = nearer * in_place
        first, second = visible_evidence(original.evidence, target)
        log_odds = (first / second).log()
        if self.w < 1:  # at 1 the area is left out: where the share is 0 or 1, inf - inf
            log_odds = (1. - self.w) * torch.logit(target.lam) + self.w * log_odds
        return torch.sigmoid(log_odds + nearer)


_EVIDENCE = Formula(*WEIGHTS['evidence'])  # made once: made in a compiled step, it would break the graph
