"""The corrected share of each label in a mixed image: one class for each formula, and a table of them.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

Symbols: z, z', z_mix are the logits of the first image, its partner and their mixture; p = softmax(z),
p' = softmax(z'), q = softmax(z_mix); p~ is p without class y_b, p~' is p' without class y_a; n(v) = v / ||v||_2.
Every formula here is

    lam_hat = sigmoid(logit(lam) - (D_a - D_b))

with its own distances D_a, D_b of the mixture from each image. In log space it is exact at lam = 0 and 1.

The paper's printed equations were not at hand. 'released' is what the authors' code computes, but for its division of
exponentials, which underflow to 0 / 0 in large batches. 'similarity' is as the abstract describes it, in the form of
that code with its sign mended. 'feature' and 'evidence' are this library's own.
"""
import warnings
from dataclasses import dataclass, fields
from typing import Any, Callable, ClassVar, Dict, Optional, Tuple, Union

import torch
import torch.nn.functional as F

from ..target import HeadOutput, MixedTarget
from .base import Ratio
from .evidence import MIXED_POWER, POWER, evidence_weights, visible_evidence

_TINY = 1e-6


def prediction_changes(
        mixed: HeadOutput,
        original: HeadOutput,
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
    origin: ClassVar[str] = "as the paper's abstract describes it, in the form of the released code, its sign mended"

    def distances(self, mixed, original, target):
        first, second = prediction_changes(mixed, original, target)
        return self.strength * first.norm(dim=-1), self.strength * second.norm(dim=-1)


@dataclass(frozen=True)
class Feature(Ratio):
    """D_a = -strength * cos(f_mix, f), of the pooled features f that feed the classifier."""
    strength: float = 8.
    features: ClassVar[bool] = True
    origin: ClassVar[str] = "this library's own, not the paper's"

    def distances(self, mixed, original, target):
        f_mix, f = mixed.features.detach().float(), original.features.detach().float()
        return (
            -self.strength * F.cosine_similarity(f_mix, f, dim=-1),
            -self.strength * F.cosine_similarity(f_mix, target.partner(f), dim=-1))


@dataclass(frozen=True)
class Evidence(Ratio):
    """The first image's part of the evidence in the mixed image itself: sum(e * m) / sum(e), in one pass.

    e is the evidence at each place of the mixed image, m the visible fraction of the first image there. It is the idea
    of TransMix (https://arxiv.org/abs/2111.09833), which reads a transformer's attention, for any model with a feature
    map. Where a policy shows the partner whole at a smaller size (ResizeMix), how much is seen of it does not depend on
    the size of its evidence: there the mean of this and the area is taken.

    Args:
        power: The strength of the features over its maximum, to this power, is the evidence.
    """
    power: float = MIXED_POWER
    needs_original: ClassVar[bool] = False
    mixed_evidence: ClassVar[bool] = True
    origin: ClassVar[str] = "this library's own, not the paper's"

    def shares(self, mixed, original, target):
        _warn_without_places(mixed.evidence, target, 'leaves labels as they are by area')
        weights = evidence_weights(mixed.evidence, self.power)
        first, _ = target.visible_fraction((weights.shape[1], weights.shape[2]))
        lam = (weights * first).sum((1, 2)) / weights.sum((1, 2))
        return lam if target.partner_mask is None else (lam + target.lam) / 2


@dataclass(frozen=True)
class EvidenceOfBoth(Ratio):
    """The visible fraction of each image's evidence in place of its area, times exp(strength * cos(f_mix, f)).

    The evidence is read from the unmixed images, in a second pass.

    Args:
        strength: Weight of the feature similarity, added to the evidence in log-odds; at 0 the evidence alone decides.
        power: The strength of the features over its maximum, to this power, is the evidence.
    """
    strength: float = 1.
    power: float = POWER
    features: ClassVar[bool] = True
    original_evidence: ClassVar[bool] = True
    origin: ClassVar[str] = "this library's own, not the paper's"

    @property
    def name(self) -> str:
        return 'evidence'

    def distances(self, mixed, original, target):
        _warn_without_places(original.evidence, target, "corrects as 'feature' does at the same strength")
        visible = visible_evidence(original.evidence, target, self.power)
        first, second = Feature(self.strength).distances(mixed, original, target)
        return (
            _log_ratio(target.lam, visible[0]) + first,
            _log_ratio(1. - target.lam, visible[1]) + second)


def _warn_without_places(evidence: torch.Tensor, target: MixedTarget, instead: str) -> None:
    """Warn, once, where evidence [N, h, w] or mask has no places, and say what the ratio does instead."""
    if not target.mixed or target.mask is not None and evidence.shape[1:] != (1, 1):
        return
    why = (
        'a MixedTarget without the mask that the images were mixed by' if target.mask is None else
        'evidence of a single place (no map, or one of 1 x 1 for images of this size)')
    warnings.warn(f"ratio 'evidence' got {why}: it {instead}", stacklevel=6)


def _log_ratio(area: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    return area.clamp(min=_TINY).log() - visible.clamp(min=_TINY).log()


@dataclass(frozen=True)
class Released(Ratio):
    """D_a = N * n(softmax(q - p~))[y_a], N being the batch size: a strength that depends on the batch."""
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
    needs_original: ClassVar[bool] = False
    origin: ClassVar[str] = "no correction, CutMix's own label"

    def shares(self, mixed, original, target):
        return target.lam


class _OwnRatio(Ratio):
    """A plain function of the user's, given all that the passes can tell."""
    needs_original = False  # not unless it is asked for: `original` may be None
    features = original_evidence = mixed_evidence = True

    def __init__(self, function: Callable[..., torch.Tensor]):
        self.function = function

    @property
    def name(self) -> str:
        return getattr(self.function, '__name__', type(self.function).__name__)

    def __repr__(self) -> str:
        return self.name

    def shares(self, mixed, original, target):
        lam = self.function(mixed, original, target)
        if lam.device.type == 'cpu' and not bool(((lam >= 0) & (lam <= 1) | lam.isnan()).all()):
            raise ValueError(f'ratio {self.name!r} must return shares in [0, 1], got {lam.min()} to {lam.max()}')
        return lam


# name: a dataclass that is a Ratio
RATIOS: Dict[str, Any] = {
    'evidence': Evidence,
    'feature': Feature,
    'similarity': Similarity,
    'released': Released,
    'area': Area,
}
# the same name, where there is a pass over the unmixed images
WITH_ORIGINAL: Dict[str, Any] = {'evidence': EvidenceOfBoth}


def create_ratio(
        ratio: Union[str, Ratio, Callable[..., torch.Tensor]],
        strength: Optional[float] = None,
        with_original: bool = True,
) -> Ratio:
    """Return a ratio by its name, or one of your own as it is.

    Args:
        ratio: A name in RATIOS, a Ratio, or a function (mixed, original, target) -> lam [N].
        strength: Strength of the correction; None: the ratio's own default.
        with_original: Whether there is a pass over the unmixed images.

    Raises:
        ValueError: If the name is unknown, or a strength is given to a ratio that takes none.
    """
    if isinstance(ratio, str) and ratio not in RATIOS:
        raise ValueError(f'ratio must be one of {list(RATIOS)}, got {ratio!r}')
    if isinstance(ratio, str):
        kind = WITH_ORIGINAL.get(ratio, RATIOS[ratio]) if with_original else RATIOS[ratio]
        if strength is None:
            return kind()
        if 'strength' in [option.name for option in fields(kind)]:
            return kind(strength=strength)
    elif strength is None:
        return ratio if isinstance(ratio, Ratio) else _OwnRatio(ratio)
    name = ratio if isinstance(ratio, str) else 'of your own'
    raise ValueError(f'ratio {name!r} has no strength, got {strength}: leave it out')
