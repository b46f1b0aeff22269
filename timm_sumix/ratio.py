"""The corrected share of each label in a mixed image.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

Symbols: z, z', z_mix are the logits of the first image, its partner and their mixture; p = softmax(z),
p' = softmax(z'), q = softmax(z_mix); p~ is p without class y_b, p~' is p' without class y_a; n(v) = v / ||v||_2.
Every ratio is

    lam_hat = sigmoid(logit(lam) - (D_a - D_b))

with its own distances D_a, D_b of the mixture from each image. In log space it is exact at lam = 0 and 1, and never
NaN.

Deviations from the authors' release: it divides exponentials, which underflow to 0 / 0 at large batches. Its formula is
kept as 'released'; 'similarity' and 'feature' use distances per sample, independent of the batch size. 'place' is this
library's own: it looks where each image's evidence lies, and what of it the mixture shows.
"""
import warnings
from typing import Callable, Dict, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F

from .target import HeadOutput, MixedTarget

# the strength of features to this power is taken for evidence: 2 to 4 do as well, see docs/evidence.md
SHARPNESS = 3.
_TINY = 1e-6


class Ratio(NamedTuple):
    """One way to correct a share.

    Args:
        distances: (mixed, original, target, temperature) -> (D_a [N], D_b [N]).
        temperature: Default strength of the correction; None where there is nothing to set.
        features: Whether HeadOutput.features are needed.
        places: Whether the originals' HeadOutput.strength is needed, and the target's mask used.
        gamma: Weight of SUMixTask's uncertainty term by default; see docs/evidence.md.
    """
    distances: Callable[..., Tuple[torch.Tensor, torch.Tensor]]
    temperature: Optional[float] = None
    features: bool = False
    places: bool = False
    gamma: float = 0.


def changes(
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


def _similarity(mixed, original, target, temperature):
    # the nearer the mixture's prediction stays to an image's own, the more of that label it keeps
    return tuple(temperature * change.norm(dim=-1) for change in changes(mixed, original, target))


def _feature(mixed, original, target, temperature):
    f_mix, f = mixed.features.detach().float(), original.features.detach().float()
    return tuple(-temperature * F.cosine_similarity(f_mix, other, dim=-1) for other in (f, target.partner(f)))


def _place(mixed, original, target, temperature):
    # what of each image's evidence is shown, in place of its area; then what the mixture's features say of it
    visible = visible_evidence(original.strength, target)
    return tuple(
        area.clamp(min=_TINY).log() - part.clamp(min=_TINY).log() + distance
        for area, part, distance in zip(
            (target.lam, 1. - target.lam), visible, _feature(mixed, original, target, temperature)))


def visible_evidence(strength: torch.Tensor, target: MixedTarget) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return how much of each image's evidence, and of its partner's, the mixed image shows.

    Args:
        strength: Strength of the originals' features by place [N, h, w]; sharpened, it is the evidence, and where all
            places are alike each has an equal share of it.
        target: The mixed batch, with its mask.

    Returns:
        Two tensors [N], float32, in [0, 1].
    """
    strength = strength.float()
    relative = strength / strength.amax((1, 2), keepdim=True).clamp(min=_TINY)
    sharpened = relative.clamp(min=_TINY) ** SHARPNESS
    evidence = sharpened / sharpened.sum((1, 2), keepdim=True)
    first, second = target.shown(tuple(evidence.shape[-2:]))
    return (evidence * first).sum((1, 2)), (target.partner(evidence) * second).sum((1, 2))


def _released(mixed, original, target, temperature):
    batch_size = len(target)  # the release multiplies by it: a temperature that depends on the batch
    return tuple(
        batch_size * F.normalize(change.softmax(dim=-1), dim=-1).gather(1, labels.unsqueeze(1)).squeeze(1)
        for change, labels in zip(
            changes(mixed, original, target, mask_same_label=True), (target.labels, target.partner_labels))
    )


def _area(mixed, original, target, temperature):
    return torch.zeros_like(target.lam), torch.zeros_like(target.lam)


RATIOS: Dict[str, Ratio] = {
    'similarity': Ratio(_similarity, temperature=2.),
    'feature': Ratio(_feature, temperature=8., features=True),
    'place': Ratio(_place, temperature=1., features=True, places=True),
    'released': Ratio(_released, gamma=0.5),
    'area': Ratio(_area),
}


def find_ratio(name: str) -> Ratio:
    """Return the ratio of that name, or raise a ValueError that lists them all."""
    if name not in RATIOS:
        raise ValueError(f'ratio must be one of {list(RATIOS)}, got {name!r}')
    return RATIOS[name]


def find_temperature(name: str, temperature: Optional[float]) -> Optional[float]:
    """Return the temperature to use for a ratio: its own default for None, or a ValueError if it has no use for one."""
    default = find_ratio(name).temperature
    if temperature is None:
        return default
    if default is None:
        raise ValueError(f'ratio {name!r} has no temperature, got {temperature}: leave it out')
    if not 0. <= temperature < float('inf'):
        raise ValueError(f'temperature must be 0 or greater, got {temperature}')
    return temperature


@torch.no_grad()
def corrected_lam(
        mixed: HeadOutput,
        original: HeadOutput,
        target: MixedTarget,
        ratio: str = 'similarity',
        temperature: Optional[float] = None,
) -> torch.Tensor:
    """Correct the share of each first image by what the network still recognises of it.

    lam_hat = sigmoid(logit(lam) - (D_a - D_b))

    Args:
        mixed: Outputs for the mixed images.
        original: Outputs for the unmixed images, in the order of the batch.
        target: Labels of the mixed batch; `target.lam` holds the shares by area.
        ratio: 'similarity' (D = tau * ||q - p~||), 'feature' (D = -kappa * cos(f_mix, f)), 'place' (feature's D, and
            the share of the image's evidence that is shown in place of its share of area), 'released' (the authors'
            code: D_a = N * n(softmax(q - p~))[y_a]) or 'area' (D = 0).
        temperature: tau or kappa, 0 or greater; None: the ratio's own default (similarity 2, feature 8, place 1). At
            0 'place' rests on the evidence alone, and the others leave the area as it is.

    Returns:
        Corrected shares [N], float32, no gradient.

    Raises:
        ValueError: If the ratio is unknown, the temperature is negative or of no use, or features or strength are
            missing or of another shape.

    Warns:
        UserWarning: If 'place' is to correct a target without a mask, or has a single place to look at: all it can do
            then is what 'feature' does.
    """
    chosen, temperature = find_ratio(ratio), find_temperature(ratio, temperature)
    _check_outputs(ratio, mixed, original, target)
    first, second = chosen.distances(mixed, original, target, temperature)
    return torch.sigmoid(torch.logit(target.lam) - (first - second))


def _check_outputs(name: str, mixed: HeadOutput, original: HeadOutput, target: MixedTarget) -> None:
    """Raise ValueError unless the outputs hold what a ratio needs; warn where 'place' has nothing to see."""
    ratio, size = find_ratio(name), len(target)
    if ratio.features:
        shapes = [None if part.features is None else tuple(part.features.shape) for part in (mixed, original)]
        if None in shapes or shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] != size:
            raise ValueError(
                f'ratio {name!r} needs HeadOutput.features [{size}, D] for the mixed and the original images, got '
                f'{shapes[0]} and {shapes[1]}')
    if not ratio.places:
        return
    shape = None if original.strength is None else tuple(original.strength.shape)
    if shape is None or len(shape) != 3 or shape[0] != size:
        raise ValueError(
            f'ratio {name!r} needs HeadOutput.strength [{size}, h, w] for the original images, got {shape}')
    if target.mixed and (target.mask is None or shape[1:] == (1, 1)):
        why = (
            'a MixedTarget without the mask that the images were mixed by' if target.mask is None else
            "a single place, as the model's last map is 1 x 1 for images of this size")
        warnings.warn(
            f"ratio {name!r} got {why}: it corrects as 'feature' does at the same temperature", stacklevel=4)
