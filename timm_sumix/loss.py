"""The SUMix criterion: classification with corrected labels, and a term for the uncertainty of the mixed sample.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

    loss = base(z_mix, t(lam_hat)) + gamma * regulariser

Deviations from the authors' released code:
- any criterion over (logits, soft target) can be the base; the release has cross-entropy alone;
- each sample is weighted by its own lam_hat; the release weights batch means (ratio 'released' does the same);
- alpha carries the factor N (batch size) in ratio 'released' only;
- the exponent of F is capped where it would overflow.
"""
from typing import Any, Callable, Dict, Optional, Union

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.loss import JsdCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from .compat import is_softmax
from .correction import ONE_CLASS
from .correction.formula import prediction_changes
from .correction.released import Released
from .options import SUMixOptions, resolve_options
from .target import MixedTarget, ModelOutput


class SUMixLoss(nn.Module):
    """Classification loss of a mixed batch under corrected labels, plus gamma times the uncertainty term.

    Args:
        base: Criterion over (logits [N, C], soft target [N, C]); None: timm's SoftTargetCrossEntropy.
        options: Settings of the correction; None: the defaults.
        **changes: Fields of SUMixOptions that differ from `options`, such as ratio='similarity'.

    Raises:
        TypeError: If a keyword is no field of SUMixOptions.
        ValueError: If an option is out of range, or base cannot take soft targets or does not reduce its loss, or ratio
            'released' comes with a base other than cross-entropy, for which the release has no formula.
    """

    def __init__(
            self,
            base: Optional[Union[nn.Module, Callable]] = None,
            options: Optional[SUMixOptions] = None,
            **changes: Any,
    ):
        super().__init__()
        self.options = resolve_options(options, changes)
        self.ratio = self.options.create_ratio()
        self.base = SoftTargetCrossEntropy() if base is None else base
        if isinstance(self.base, (LabelSmoothingCrossEntropy, JsdCrossEntropy)):
            raise ValueError(
                f'base must take soft targets [N, C], which {type(self.base).__name__} does not; '
                'label smoothing is an argument of SUMixMixup')
        if getattr(self.base, 'reduction', None) == 'none' and not getattr(self.base, 'sum_classes', False):
            raise ValueError(
                f"base must return one loss for the batch, {type(self.base).__name__} has reduction 'none': use 'mean'")
        self.is_released = isinstance(self.ratio, Released)
        if self.is_released and not isinstance(self.base, (SoftTargetCrossEntropy, nn.CrossEntropyLoss)):
            raise ValueError(
                "ratio 'released' needs SoftTargetCrossEntropy or CrossEntropyLoss as its base, "
                f'got {getattr(base, "__name__", type(base).__name__)}')

    def extra_repr(self) -> str:
        options = self.options
        return f'ratio={self.ratio}, gamma={options.gamma:g}'

    def forward(
            self,
            mixed: ModelOutput,
            original: Optional[ModelOutput],
            target: MixedTarget,
    ) -> Dict[str, torch.Tensor]:
        """Compute the loss of one batch.

        Args:
            mixed: Outputs for the mixed images.
            original: Outputs for the same batch unmixed, of a pass of their own or unmixed, as SUMixTask makes them.
                None where nothing was mixed (`target.mixed` is False) or they are not needed.
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
        if target.multi_label:
            self.check_multi_label()
        _check_logits('mixed', mixed, target)
        if target.mixed and self._needs_original:
            if original is None:
                raise ValueError(
                    f'ratio {self.ratio.name!r} with gamma {self.options.gamma:g} needs the outputs for the unmixed '
                    'images, got None')
            _check_logits('original', original, target, self.options.gamma > 0)
        if self.is_released and target.object_mask is not None:
            raise ValueError(
                "ratio 'released' gives a batch one share, and masks of objects give each image its own: leave out "
                'object_mask, or use another ratio')

        lam = self.ratio(mixed, original, target) if target.mixed else target.lam
        # cross-entropy is linear in the target: batch-mean shares give the release's product of batch means
        classification = self._classification(mixed, target, lam.mean().expand_as(lam) if self.is_released else lam)
        if target.mixed and original is not None and self.options.gamma > 0:
            uncertainty = uncertainty_term(mixed, original, target, released=self.is_released)
            loss = classification + self.options.gamma * uncertainty
        else:
            # a copy: loops that accumulate gradients divide the loss in place
            uncertainty, loss = torch.zeros_like(classification), classification.clone()
        if not target.mixed and mixed.uncertainty is not None:
            # DistributedDataParallel expects a gradient for every parameter, the unused head's too
            loss = loss + (0. * mixed.uncertainty.float()).nan_to_num().sum()  # 0 * inf is NaN
        return {'loss': loss, 'classification': classification, 'uncertainty': uncertainty, 'lam': lam}

    def check_multi_label(self) -> None:
        """Raise ValueError if a part of it asks for the one class of an image, where an image may have several."""
        if self.ratio.uses_classes:
            raise ValueError(f'ratio {self.ratio.name!r} {ONE_CLASS}')
        if self.options.gamma > 0:
            raise ValueError('the uncertainty term is of one class an image: with multi_label gamma must be 0')
        if is_softmax(self.base):
            name = getattr(self.base, '__name__', type(self.base).__name__)
            raise ValueError(f'with multi_label the criterion must be a binary one, got {name}')

    @property
    def _needs_original(self) -> bool:
        return bool(self.ratio.needs) or self.options.gamma > 0

    def _classification(self, output: ModelOutput, target: MixedTarget, lam: torch.Tensor) -> torch.Tensor:
        """Return the base criterion's loss of logits under shares lam, a scalar."""
        logits = output.logits.float()  # under autocast they may be half precision
        # exact type, no hooks: only then does the shortcut equal it
        if type(self.base) is SoftTargetCrossEntropy and not self.base._forward_hooks:
            return cross_entropy_of_two(logits, target, lam)
        loss = self.base(logits, target.soft_target(lam))
        if loss.ndim:
            raise ValueError(f'base must return one loss for the batch, a scalar, got {list(loss.shape)}')
        return loss


def cross_entropy_of_two(logits: torch.Tensor, target: MixedTarget, lam: torch.Tensor) -> torch.Tensor:
    """Return soft-target cross-entropy, a scalar, without its target [N, C]: each image has two labels and a share.

    Args:
        logits: Class scores [N, C], float32.
        target: Labels of the mixed batch, and their smoothing.
        lam: Shares of the first images [N].
    """
    log_probs = F.log_softmax(logits, dim=-1)
    own = log_probs.gather(1, torch.stack([target.labels, target.partner_labels], dim=1))
    shares = torch.stack([lam, 1. - lam], dim=1)
    loss = torch.dot(own.flatten(), shares.flatten()) * ((target.smoothing - 1.) / max(len(target), 1))
    return loss.sub(log_probs.mean(), alpha=target.smoothing) if target.smoothing else loss


def uncertainty_term(
        mixed: ModelOutput,
        original: ModelOutput,
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
        for change in prediction_changes(mixed, original, target, mask_same_label=released)
    ]
    u, u_mix = _uncertainty(original), _uncertainty(mixed)
    # exp must stay finite, in the gradient too, which returns in the dtype that the model computes in
    limit = 10. if torch.float16 in (mixed.logits.dtype, original.logits.dtype) else 80.
    entropies = [
        F.cross_entropy((-(alpha + beta + u_mix)).clamp(max=limit).exp(), labels, reduction='none')
        for alpha, beta, labels in zip(
            alphas, (u, target.partner(u)), (target.labels, target.partner_labels))
    ]
    return (target.area * entropies[0] + (1. - target.area) * entropies[1]).mean()


def _uncertainty(output: ModelOutput) -> torch.Tensor:
    if output.uncertainty is None:
        return output.logits.float()
    return F.normalize(output.uncertainty.float().softmax(dim=-1), dim=-1)


def _check_logits(name: str, output: ModelOutput, target: MixedTarget, is_needed: bool = True) -> None:
    expected = (len(target), target.num_classes)
    for part, value in (('logits', output.logits), ('uncertainty', output.uncertainty)):
        shape = None if value is None else list(value.shape)
        if shape != list(expected) and (shape is not None or part == 'logits' and is_needed):
            raise ValueError(f'{name} {part} must be [batch size, classes] = {list(expected)}, got {shape}')
