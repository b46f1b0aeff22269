"""The SUMix criterion: classification with corrected labels, and a term for the uncertainty of the mixed sample.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

    loss = base(z_mix, t(lam_hat)) + gamma * regulariser

Deviations from the authors' release:
- any criterion over (logits, soft target) can be the base; the release has cross-entropy alone;
- each sample is weighed by its own lam_hat; the release weighs batch means (ratio 'released' does the same);
- alpha carries the factor N (batch size) in ratio 'released' only;
- the exponent of F is capped where it would overflow.
"""
from typing import Callable, Dict, Optional, Union

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.loss import JsdCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from .ratio import changes, corrected_lam, find_ratio, find_temperature
from .target import HeadOutput, MixedTarget


class SUMixLoss(nn.Module):
    """Classification loss of a mixed batch under corrected labels, plus gamma times the uncertainty term.

    Args:
        base: Criterion over (logits [N, C], soft target [N, C]); None: timm's SoftTargetCrossEntropy.
        ratio: How shares are corrected: 'similarity' (needs logits alone), 'feature', 'place', 'released', or 'area'
            for not at all.
        temperature: Strength of the correction, 0 or greater; None: the ratio's own default.
        gamma: Weight of the uncertainty term, 0 or greater; 0 leaves it out.

    Raises:
        ValueError: If an argument is out of range, or base cannot take soft targets, or ratio 'released' comes with
            a base other than cross-entropy, for which the release has no formula.
    """

    def __init__(
            self,
            base: Optional[Union[nn.Module, Callable]] = None,
            ratio: str = 'similarity',
            temperature: Optional[float] = None,
            gamma: float = 0.5,
    ):
        super().__init__()
        self.temperature = find_temperature(ratio, temperature)
        if not 0. <= gamma < float('inf'):
            raise ValueError(f'gamma must be 0 or greater, got {gamma}')
        self.base = SoftTargetCrossEntropy() if base is None else base
        if isinstance(self.base, (LabelSmoothingCrossEntropy, JsdCrossEntropy)):
            raise ValueError(
                f'base must take soft targets [N, C], which {type(self.base).__name__} does not; '
                'label smoothing is an argument of SUMixMixup')
        if ratio == 'released' and not isinstance(self.base, (SoftTargetCrossEntropy, nn.CrossEntropyLoss)):
            raise ValueError(
                "ratio 'released' needs SoftTargetCrossEntropy or CrossEntropyLoss as its base, "
                f'got {getattr(base, "__name__", type(base).__name__)}')
        self.ratio = ratio
        self.gamma = gamma

    @property
    def needs_original(self) -> bool:
        """Whether a mixed batch needs the outputs for its original images."""
        return self.ratio != 'area' or self.gamma > 0

    @property
    def needs_features(self) -> bool:
        """Whether HeadOutput.features are needed."""
        return find_ratio(self.ratio).features

    @property
    def needs_places(self) -> bool:
        """Whether the originals' HeadOutput.strength is needed."""
        return find_ratio(self.ratio).places

    def extra_repr(self) -> str:
        return f'ratio={self.ratio}, temperature={self.temperature}, gamma={self.gamma}'

    def forward(
            self,
            mixed: HeadOutput,
            original: Optional[HeadOutput],
            target: MixedTarget,
    ) -> Dict[str, torch.Tensor]:
        """Compute the loss of one batch.

        Args:
            mixed: Outputs for the mixed images.
            original: Outputs for the same batch unmixed. None where nothing was mixed (`target.mixed` is False) or
                nothing is corrected (`needs_original` is False).
            target: Labels of the mixed batch.

        Returns:
            Dictionary containing:
                - 'loss': classification + gamma * uncertainty, a scalar with gradient
                - 'classification': the base criterion under the corrected labels, a scalar
                - 'uncertainty': the uncertainty term before gamma, a scalar; 0 if it was left out
                - 'lam': corrected shares of the first images [N], no gradient

        Raises:
            ValueError: If shapes do not fit each other, or original is missing.
        """
        corrects = target.mixed and self.needs_original
        _check_logits('mixed', mixed, target)
        if corrects:
            if original is None:
                raise ValueError(f'ratio {self.ratio!r} with gamma {self.gamma} needs the original outputs, got None')
            _check_logits('original', original, target)

        # float32 throughout: under autocast logits may be half precision
        logits = mixed.logits.float()
        lam, uncertainty = target.lam, logits.new_zeros(())
        if corrects:
            lam = corrected_lam(mixed, original, target, self.ratio, self.temperature)
            if self.gamma > 0:
                uncertainty = uncertainty_term(mixed, original, target, released=self.ratio == 'released')
        # cross-entropy is linear in the target: batch-mean shares give the release's product of batch means
        share = lam.mean().expand_as(lam) if self.ratio == 'released' else lam
        classification = self.base(logits, target.dense(share))
        loss = classification + self.gamma * uncertainty
        if not corrects and mixed.uncertainty is not None:
            # DistributedDataParallel expects a gradient for every parameter, the unused head's too
            loss = loss + 0. * mixed.uncertainty.float().sum()
        return {'loss': loss, 'classification': classification, 'uncertainty': uncertainty, 'lam': lam}


def uncertainty_term(
        mixed: HeadOutput,
        original: HeadOutput,
        target: MixedTarget,
        released: bool = False,
) -> torch.Tensor:
    """Penalise labels that neither the prediction's change nor the uncertainty of the images explains.

    F_a = exp(-(alpha + u + u_mix)), F_b = exp(-(alpha' + u' + u_mix)), alpha = n(softmax(q - p~)),
    term = mean(lam * CE(F_a, y_a) + (1 - lam) * CE(F_b, y_b)), lam being the share by area. u = n(softmax(h)) for the
    output h of an uncertainty head, and u = z, not normalised, where there is no head.

    Args:
        mixed: Outputs for the mixed images.
        original: Outputs for the unmixed images, in the order of the batch.
        target: Labels of the mixed batch.
        released: Multiply alpha by the batch size N, and mask as the authors' code does.

    Returns:
        The term, a scalar. Gradient flows through u, u' and u_mix, not through alpha.
    """
    scale = len(target) if released else 1.
    alphas = [
        scale * F.normalize(change.softmax(dim=-1), dim=-1)
        for change in changes(mixed, original, target, mask_same_label=released)
    ]
    u, u_mix = _uncertainty(original), _uncertainty(mixed)
    # exp must stay finite, in the gradient too, which returns in the dtype that the model computes in
    limit = 10. if torch.float16 in (mixed.logits.dtype, original.logits.dtype) else 80.
    entropies = [
        F.cross_entropy((-(alpha + beta + u_mix)).clamp(max=limit).exp(), labels, reduction='none')
        for alpha, beta, labels in zip(
            alphas, (u, target.partner(u)), (target.labels, target.partner_labels))
    ]
    return (target.lam * entropies[0] + (1. - target.lam) * entropies[1]).mean()


def _uncertainty(output: HeadOutput) -> torch.Tensor:
    if output.uncertainty is None:
        return output.logits.float()
    return F.normalize(output.uncertainty.float().softmax(dim=-1), dim=-1)


def _check_logits(name: str, output: HeadOutput, target: MixedTarget) -> None:
    expected = (len(target), target.num_classes)
    for part, value in (('logits', output.logits), ('uncertainty', output.uncertainty)):
        if value is not None and tuple(value.shape) != expected:
            raise ValueError(
                f'{name} {part} must be [batch size, classes] = {list(expected)}, got {list(value.shape)}')
