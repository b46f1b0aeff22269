"""The SUMix criterion: classification with corrected labels, and a term for the uncertainty of the mixed sample.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

    loss = base(z_mix, t(lam_hat)) + gamma * term

Deviations from the authors' released code: any criterion over (logits, soft target) can be the base, not cross-entropy
alone; with other ratios than 'released' each sample is weighted by its own lam_hat, rather than batch means, and alpha
is without the factor N (batch size); the exponent of F is capped where it would overflow.
"""
from dataclasses import fields, replace
from typing import Any, Callable, Dict, Optional

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.loss import JsdCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from .compat import is_softmax
from .correction import ONE_CLASS
from .correction.formula import prediction_changes
from .correction.released import Released
from .options import SUMixOptions
from .target import MixedTarget, ModelOutput


class SUMixLoss(nn.Module):
    """Classification loss of a mixed batch under corrected labels, plus gamma times the uncertainty term.

    Args:
        base: Criterion over (logits [N, C], soft target [N, C]) that returns a scalar, with ratio 'released' one of
            cross-entropy; None: timm's SoftTargetCrossEntropy.
        options: Settings of the correction; None: the defaults.
        **changes: Fields of SUMixOptions that differ from `options`, such as ratio='similarity'.

    TypeError if a keyword is no field of SUMixOptions; ValueError if an option is out of range, or base cannot be used.
    """

    def __init__(self, base: Optional[Callable] = None, options: Optional[SUMixOptions] = None, **changes: Any):
        super().__init__()
        known = [option.name for option in fields(SUMixOptions)]
        if unknown := [name for name in changes if name not in known]:
            raise TypeError(f'options must be among {known}, got {unknown}')
        self.options = replace(options or SUMixOptions(), **changes)
        self.ratio = self.options.create_ratio()
        self.base = SoftTargetCrossEntropy() if base is None else base
        if isinstance(self.base, (LabelSmoothingCrossEntropy, JsdCrossEntropy)):
            raise ValueError(
                f'base must take soft targets [N, C], which {_name(self.base)} does not; SUMixMixup smooths labels')
        self.is_released = isinstance(self.ratio, Released)
        if self.is_released and not isinstance(self.base, (SoftTargetCrossEntropy, nn.CrossEntropyLoss)):
            raise ValueError(
                f"ratio 'released' needs SoftTargetCrossEntropy or CrossEntropyLoss as base, got {_name(self.base)}")

    def extra_repr(self) -> str:
        return f'ratio={self.ratio}, gamma={self.options.gamma:g}'

    def forward(
            self, mixed: ModelOutput, original: Optional[ModelOutput], target: MixedTarget) -> Dict[str, torch.Tensor]:
        """Return the loss of one batch; ValueError if shapes do not fit each other, or original is missing.

        Args:
            mixed: Outputs for the mixed images.
            original: Outputs for the unmixed images; None where nothing was mixed or the ratio needs none.
            target: Labels of the mixed batch.

        Returns:
            - 'loss': classification + gamma * uncertainty, a scalar with gradient
            - 'classification': base criterion under the corrected labels, a scalar
            - 'uncertainty': uncertainty term before gamma, a scalar; 0 where it is off or nothing was mixed
            - 'lam': corrected shares of the first images [N], no gradient
        """
        gamma = self.options.gamma
        if target.multi_label:
            self.check_multi_label()
        _check_shapes('mixed', mixed, target, needs_logits=True)
        if not target.mixed:
            original = None
        elif original is None and gamma > 0:
            raise ValueError(f'gamma {gamma:g} needs the outputs for the unmixed images, got None')
        if original is not None and (self.ratio.needs or gamma > 0):
            _check_shapes('original', original, target, needs_logits=gamma > 0)
        if self.is_released and target.object_mask is not None:
            raise ValueError("ratio 'released' gives a batch one share, object_mask one per image: use one of them")

        lam = self.ratio(mixed, original, target) if target.mixed else target.lam
        # cross-entropy is linear in the target: batch-mean shares give the release's product of batch means
        shares = lam.mean().expand_as(lam) if self.is_released else lam
        logits = mixed.logits.float()  # under autocast they may be half precision
        # exact type, no hooks: only then does the shortcut equal it
        if type(self.base) is SoftTargetCrossEntropy and not self.base._forward_hooks:
            classification = cross_entropy_of_two(logits, target, shares)
        else:
            classification = self.base(logits, target.soft_target(shares))
        if classification.ndim:
            raise ValueError(
                f"base must return one loss for the batch, got {list(classification.shape)}: use reduction 'mean'")
        if original is not None and gamma > 0:
            uncertainty = uncertainty_term(mixed, original, target, released=self.is_released)
            loss = classification + gamma * uncertainty
        else:
            uncertainty, loss = torch.zeros_like(classification), classification.clone()  # accumulating loops divide it
        if not target.mixed and mixed.uncertainty is not None:
            # DistributedDataParallel expects a gradient for every parameter, the unused head's too
            loss = loss + (0. * mixed.uncertainty.float()).nan_to_num().sum()  # 0 * inf is NaN
        return {'loss': loss, 'classification': classification, 'uncertainty': uncertainty, 'lam': lam}

    def check_multi_label(self) -> None:
        """Raise ValueError if ratio, term or criterion expects one class an image."""
        if self.ratio.uses_classes:
            raise ValueError(f'ratio {self.ratio.name!r} {ONE_CLASS}')
        if self.options.gamma > 0:
            raise ValueError('the uncertainty term is of one class an image: with multi_label gamma must be 0')
        if is_softmax(self.base):
            raise ValueError(f'with multi_label the criterion must be a binary one, got {_name(self.base)}')


def _name(criterion: Callable) -> str:
    return getattr(criterion, '__name__', type(criterion).__name__)


def cross_entropy_of_two(logits: torch.Tensor, target: MixedTarget, lam: torch.Tensor) -> torch.Tensor:
    """Return soft-target cross-entropy of logits [N, C] under shares [N], a scalar, without a target [N, C]."""
    log_probs = F.log_softmax(logits, dim=-1)
    own = log_probs.gather(1, torch.stack([target.labels, target.partner_labels], dim=1))
    shares = torch.stack([lam, 1. - lam], dim=1)
    loss = torch.dot(own.flatten(), shares.flatten()) * ((target.smoothing - 1.) / max(len(target), 1))
    return loss.sub(log_probs.mean(), alpha=target.smoothing) if target.smoothing else loss


def uncertainty_term(
        mixed: ModelOutput, original: ModelOutput, target: MixedTarget, released: bool = False) -> torch.Tensor:
    """Penalise labels that neither the prediction's change nor the uncertainty of the images explains; a scalar.

    F_a = exp(-(alpha + u + u_mix)), F_b = exp(-(alpha' + u' + u_mix)), alpha = n(softmax(q - p~)),
    term = mean(lam * CE(F_a, y_a) + (1 - lam) * CE(F_b, y_b)), lam being the share by area. u = n(softmax(h)) for the
    output h of an uncertainty head, and u = z, not normalised, where there is no head. Gradient flows through u, u' and
    u_mix, not through alpha. `released` multiplies alpha by the batch size N, and masks as the authors' code does.
    """
    scale = len(target) if released else 1.
    u, u_mix = (
        output.logits.float() if output.uncertainty is None
        else F.normalize(output.uncertainty.float().softmax(dim=-1), dim=-1) for output in (original, mixed))
    # exp must stay finite, in the gradient too, which returns in the dtype that the model computes in
    limit = 10. if torch.float16 in (mixed.logits.dtype, original.logits.dtype) else 80.
    entropies = []
    for change, own, labels in zip(
            prediction_changes(mixed, original, target, mask_same_label=released),
            (u, target.partner(u)), (target.labels, target.partner_labels)):
        alpha = scale * F.normalize(change.softmax(dim=-1), dim=-1)
        scores = (-(alpha + own + u_mix)).clamp(max=limit).exp()
        entropies.append(F.cross_entropy(scores, labels, reduction='none'))
    return (target.area * entropies[0] + (1. - target.area) * entropies[1]).mean()


def _check_shapes(name: str, output: ModelOutput, target: MixedTarget, needs_logits: bool) -> None:
    expected = [len(target), target.num_classes]
    for field, value in (('logits', output.logits), ('uncertainty', output.uncertainty)):
        shape = None if value is None else list(value.shape)
        if shape != expected and (shape is not None or field == 'logits' and needs_logits):
            raise ValueError(f'{name} {field} must be [batch size, classes] = {expected}, got {shape}')
