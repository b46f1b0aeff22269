"""The corrected share of each label in a mixed image: one class for each formula, and a table of them.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

Symbols: z, z', z_mix are the logits of the first image, its partner and their mixture; p = softmax(z),
p' = softmax(z'), q = softmax(z_mix); p~ is p without class y_b, p~' is p' without class y_a; n(v) = v / ||v||_2.
Every formula here is

    lam_hat = sigmoid(logit(lam) - (D_a - D_b))

with its own distances D_a, D_b of the mixture from each image. In log space it is exact at lam = 0 and 1.

The paper's printed equations were not at hand. 'released' is what the authors' code computes, but for its division of
exponentials, which underflow to 0 / 0 in large batches. 'similarity' is as the abstract describes it, in the form of
that code with its sign mended. 'feature' and 'evidence' are this library's own; 'combined' is
its evidence and similarity's comparison in one.
"""
from dataclasses import dataclass, fields
from typing import Any, Callable, ClassVar, Dict, Optional, Tuple, Union

import torch
import torch.nn.functional as F

from ..target import MixedTarget, ModelOutput
from .base import FIELDS, Ratio
from .evidence import visible_evidence

COMBINED_PER_EVIDENCE = 4.  # the strength of 'combined' over that of 'evidence', where both compare features


def prediction_changes(
        mixed: ModelOutput,
        original: ModelOutput,
        target: MixedTarget,
        mask_same_label: bool = False,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return how the mixture's prediction differs from each image's own: q - p~ and q - p~'.

    Args:
        mixed: Outputs for the mixed images.
        original: Outputs for the unmixed images.
        target: Labels of the mixed batch.
        mask_same_label: Remove the partner's class even where it is the image's own, as the authors' code does.

    Returns:
        q - p~ and q - p~', [N, C] each, float32, no gradient.
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
class Similarity(Ratio):
    """D_a = strength * ||q - p~||_2: the nearer the mixed prediction is to an image's own, the more of that label."""
    strength: float = 2.
    reads: ClassVar[Tuple[str, ...]] = ('logits',)
    reads_mixed: ClassVar[Tuple[str, ...]] = ('logits',)
    uses_classes: ClassVar[bool] = True
    origin: ClassVar[str] = "as the paper's abstract describes it, in the form of the released code, its sign mended"

    def distances(self, mixed, original, target):
        first, second = prediction_changes(mixed, original, target)
        return self.strength * first.norm(dim=-1), self.strength * second.norm(dim=-1)


@dataclass(frozen=True)
class Feature(Ratio):
    """D_a = -strength * cos(f_mix, f), f being the mean of the last feature map over its places."""
    strength: float = 8.
    reads: ClassVar[Tuple[str, ...]] = ('features',)
    reads_mixed: ClassVar[Tuple[str, ...]] = ('features',)
    origin: ClassVar[str] = "this library's own, not the paper's"

    def shares(self, mixed, original, target):
        nearer = nearer_first(mixed.features, original.features, target)
        return torch.sigmoid(torch.logit(target.lam) + self.strength * nearer)


def nearer_first(f_mix: torch.Tensor, f: torch.Tensor, target: MixedTarget) -> torch.Tensor:
    """Return cos(f_mix, f) - cos(f_mix, f') [N]: how much nearer to its first image a mixture's features [N, D] are."""
    f_mix, f = F.normalize(torch.stack([f_mix, f]).detach().float(), dim=-1)
    return (f_mix * (f - target.partner(f))).sum(-1)


@dataclass(frozen=True)
class Evidence(Ratio):
    """D_a = log(lam / v_a) - strength * cos(f_mix, f): the visible fraction v_a of the image's evidence for its area.

    Where a policy shows the partner whole at a smaller size (ResizeMix), nothing is compared, as features and
    predictions change with the size, and v_b is 1 - lam.

    Args:
        strength: Weight of the feature similarity, added to the evidence in log-odds; at 0 the evidence alone decides.
    """
    strength: float = 1.
    reads: ClassVar[Tuple[str, ...]] = ('features', 'evidence')
    reads_mixed: ClassVar[Tuple[str, ...]] = ('features',)
    origin: ClassVar[str] = "this library's own, not the paper's"

    def shares(self, mixed, original, target):
        return _shares_by_evidence(
            original.evidence, target, self.strength * nearer_first(mixed.features, original.features, target))


def _shares_by_evidence(evidence: torch.Tensor, target: MixedTarget, nearer: torch.Tensor) -> torch.Tensor:
    """Return sigmoid(log(v_a / v_b) + nearer) [N]: of logit(lam) - (D_a - D_b), lam cancels."""
    if target.mixing is None:
        raise ValueError('the evidence needs the mask that the images were mixed by, got target.mask None')
    in_place = target.mixing.partner_in_place((evidence.shape[1], evidence.shape[2]))
    if in_place is not None:
        nearer = nearer * in_place
    first, second = visible_evidence(evidence, target)
    return torch.sigmoid((first / second).log() + nearer)


@dataclass(frozen=True)
class Combined(Ratio):
    """D_a = log(lam / v_a) + strength * ||q - p~||_2: the evidence of Evidence and the distance of Similarity.

    The evidence is true before the model knows its classes; the predictions keep labels true when, late in training, a
    small last map shows less and less of the place. Where the logits cannot be unmixed (the head reads a class token),
    and no second pass tells them, features are compared in their place as Evidence does, with its own weight at the
    default strength. Of a map of a single place nothing can be said: the share stays as it is by area.

    Args:
        strength: Weight of the predictions' distance, added to the evidence in log-odds.
    """
    strength: float = 4.
    reads: ClassVar[Tuple[str, ...]] = ('logits', 'features', 'evidence')
    reads_mixed: ClassVar[Tuple[str, ...]] = ('logits', 'features')
    may_lack: ClassVar[Tuple[str, ...]] = ('logits',)
    instead_of_logits: ClassVar[Tuple[str, ...]] = ('features',)
    uses_classes: ClassVar[bool] = True
    origin: ClassVar[str] = "this library's own: evidence, and the paper's comparison of predictions"

    def shares(self, mixed, original, target):
        if original.logits is None:
            nearer = nearer_first(mixed.features, original.features, target) / COMBINED_PER_EVIDENCE
        elif original.evidence.shape[1:] == (1, 1):
            nearer = torch.zeros_like(target.lam)
        else:
            first, second = prediction_changes(mixed, original, target)
            nearer = second.norm(dim=-1) - first.norm(dim=-1)
        return _shares_by_evidence(original.evidence, target, self.strength * nearer)


@dataclass(frozen=True)
class Released(Ratio):
    """D_a = N * n(softmax(q - p~))[y_a], N being the batch size: a strength that depends on the batch."""
    reads: ClassVar[Tuple[str, ...]] = ('logits',)
    reads_mixed: ClassVar[Tuple[str, ...]] = ('logits',)
    uses_classes: ClassVar[bool] = True
    origin: ClassVar[str] = "what the authors' released code computes"

    def distances(self, mixed, original, target):
        first, second = (
            len(target) * F.normalize(change.softmax(dim=-1), dim=-1)
            for change in prediction_changes(mixed, original, target, mask_same_label=True))
        return (
            first.gather(1, target.labels.unsqueeze(1)).squeeze(1),
            second.gather(1, target.partner_labels.unsqueeze(1)).squeeze(1))


@dataclass(frozen=True)
class Area(Ratio):
    """No correction: D_a = D_b = 0."""
    reads: ClassVar[Tuple[str, ...]] = ()
    reads_mixed: ClassVar[Tuple[str, ...]] = ()
    origin: ClassVar[str] = "no correction, CutMix's own label"

    def shares(self, mixed, original, target):
        return target.lam


class _OwnRatio(Ratio):
    """A plain function of the user's, given all that the model tells; to read what it does not tell is an error."""

    may_lack: ClassVar[Tuple[str, ...]] = FIELDS  # what it reads is known once it does

    def __init__(self, function: Callable[..., torch.Tensor]):
        self.function = function

    @property
    def name(self) -> str:
        return getattr(self.function, '__name__', type(self.function).__name__)

    def __repr__(self) -> str:
        return self.name

    def shares(self, mixed, original, target):
        return self.function(_Told(mixed, 'mixed', self.name), _Told(original, 'unmixed', self.name), target)


class _Told:
    """A ModelOutput of which only what the model told can be read."""

    def __init__(self, output: ModelOutput, which: str, reader: str):
        self._output, self._which, self._reader = output, which, reader

    def __getattr__(self, name: str) -> torch.Tensor:
        value = getattr(self._output, name)
        if value is None:
            raise ValueError(
                f'ratio {self._reader!r} reads {name} of the {self._which} images, which this model does not tell')
        return value


# name: a dataclass that is a Ratio
RATIOS: Dict[str, Any] = {
    'combined': Combined,
    'evidence': Evidence,
    'feature': Feature,
    'similarity': Similarity,
    'released': Released,
    'area': Area,
}


def create_ratio(ratio: Union[str, Ratio, Callable[..., torch.Tensor]], strength: Optional[float] = None) -> Ratio:
    """Return a ratio by its name, or one of your own as it is.

    Args:
        ratio: A name in RATIOS, a Ratio, or a function (mixed, original, target) -> lam [N].
        strength: Strength of the correction; None: the ratio's own default.

    Raises:
        ValueError: If the name is unknown, or a strength is given to a ratio that takes none.
    """
    if isinstance(ratio, str):
        if ratio not in RATIOS:
            raise ValueError(f'ratio must be one of {list(RATIOS)}, got {ratio!r}')
        if strength is None:
            return RATIOS[ratio]()
        if 'strength' in [option.name for option in fields(RATIOS[ratio])]:
            return RATIOS[ratio](strength=strength)
    elif strength is None:
        return ratio if isinstance(ratio, Ratio) else _OwnRatio(ratio)
    name = ratio if isinstance(ratio, str) else 'of your own'
    raise ValueError(f'ratio {name!r} has no strength, got {strength}: leave it out')
