"""SUMix as a timm.task: the model, an uncertainty head, the mixing and the loss behind one call.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

Deviations from the authors' release: the pass over the originals can do without gradient, or at a lower resolution;
the head is kept apart from the model, so that `state_dict` in a checkpoint is a plain timm model.
"""
import logging
from typing import Any, Callable, Dict, Optional, Union

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.task import ClassificationTask
from timm.utils import unwrap_model

from .loss import SUMixLoss
from .mixup import FastCollateSUMix, SUMixMixup
from .ratio import find_ratio
from .target import MixedTarget
from .trainable import SUMixTrainable

_logger = logging.getLogger(__name__)

UNCERTAINTIES = ('head', 'logits', 'none')
ORIGINAL_PASSES = ('grad', 'no-grad')
METRICS = ('lam', 'corrected_lam', 'shift', 'classification', 'uncertainty')


class SUMixTask(ClassificationTask):
    """Classification of mixed images under corrected labels, in place of timm's ClassificationTask.

    Args:
        model: A timm model. Ratios 'place' and 'feature' and the uncertainty head need timm's forward_features and
            forward_head; otherwise any classifier will do.
        mixup: Mixes batches that come with integer labels, on their device.
        criterion: Any criterion over (logits [N, C], soft target [N, C]); None: soft-target cross-entropy.
        ratio: How shares are corrected: 'place', 'feature', 'similarity', 'released' or 'area' (not at all).
        temperature: Strength of the correction, 0 or greater; None: the ratio's own default.
        gamma: Weight of the uncertainty term, 0 or greater; 0 leaves the term out, and makes no head. None: 0, and 0.5
            for ratio 'released', to compute what the authors' code computes.
        uncertainty: 'head': a linear head on the pre-logits features, trained along and saved as task state;
            'logits': the logits themselves; 'none': no uncertainty term.
        original_pass: 'grad': the uncertainty term's gradient flows through the pass over the originals too, as in the
            authors' release; 'no-grad': it does not, which saves the backward of that pass. Without the term there is
            no such gradient.
        original_scale: Resolution of the originals in their pass, in (0, 1], as a share of the input's.
        criterion_kwargs: Arguments for timm.loss.create_classification_loss instead of a criterion (newer timm).
        device: Device of the head; the model is left where it is.
        dtype: Dtype of the head.
        verbose: Log the settings.

    Raises:
        TypeError: If the model or mixup lacks what is needed.
        ValueError: If an argument is out of range or unknown, the numbers of classes differ, or original_scale is
            given for a model of fixed input size.

    Example:
        >>> mixup = SUMixMixup(cutmix_alpha=1., mixup_alpha=0., num_classes=10)
        >>> task = SUMixTask(timm.create_model('resnet18', num_classes=10), mixup)
        >>> task(images, labels)['loss'].backward()
    """

    def __init__(
            self,
            model: nn.Module,
            mixup: SUMixMixup,
            criterion: Optional[Union[nn.Module, Callable]] = None,
            *,
            ratio: str = 'place',
            temperature: Optional[float] = None,
            gamma: Optional[float] = None,
            uncertainty: str = 'head',
            original_pass: str = 'grad',
            original_scale: float = 1.,
            criterion_kwargs: Optional[Dict[str, Any]] = None,
            device: Optional[torch.device] = None,
            dtype: Optional[torch.dtype] = None,
            verbose: bool = True,
    ):
        check_task_options(uncertainty, original_pass, original_scale)
        if criterion_kwargs:
            criterion = _create_criterion(criterion, criterion_kwargs)
        gamma = find_ratio(ratio).gamma if gamma is None else gamma
        loss = SUMixLoss(criterion, ratio, temperature, 0. if uncertainty == 'none' else gamma)
        has_head = uncertainty == 'head' and loss.gamma > 0
        if isinstance(mixup, FastCollateSUMix) or not isinstance(mixup, SUMixMixup):
            raise TypeError(
                f'mixup must be a SUMixMixup (of a FastCollateSUMix, its .mixup), got {type(mixup).__name__}')
        _check_model(model, mixup.num_classes, has_head or loss.needs_features, original_scale)
        head = nn.Linear(_num_features(model), mixup.num_classes, device=device, dtype=dtype) if has_head else None
        # labels carry no gradient: only the uncertainty term sends one through the originals
        original_grad = original_pass == 'grad' and loss.gamma > 0
        trainable = SUMixTrainable(model, head, loss.needs_features, original_grad, loss.needs_places)
        super().__init__(trainable, loss, device=device, dtype=dtype, verbose=verbose)
        self.mixup = mixup
        self.original_scale = original_scale
        # SyncBatchNorm makes processes wait for each other in each pass: all must make the same number of them
        self._always_both = any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
        self._totals: Optional[torch.Tensor] = None
        if verbose:
            _logger.info(
                f'SUMixTask: {loss.extra_repr()}, uncertainty={uncertainty}, original_pass={original_pass}, '
                f'original_scale={original_scale}')

    def forward(
            self,
            input: torch.Tensor,
            target: Union[torch.Tensor, MixedTarget],
    ) -> Dict[str, torch.Tensor]:
        """Mix the batch, unless it is mixed already, pass it and its originals through the model, compute the loss.

        Args:
            input: Images [N, C, H, W]: unmixed ones with integer labels, mixed ones with a MixedTarget.
            target: Labels [N], int64, or the MixedTarget that SUMixMixup returned.

        Returns:
            Dictionary containing:
                - 'loss': Training loss
                - 'output': Logits of the mixed images [N, C]
                - 'lam': Corrected shares of the first images [N]
                - 'classification': Base criterion under the corrected labels
                - 'uncertainty': Uncertainty term before gamma, 0 where it is off or nothing was mixed
        """
        if not isinstance(target, MixedTarget):
            input, target = self.mixup(input, target)
        mixed, original = self.trainable_module(input, self._original(target))
        result = self.criterion(mixed, original, target)
        self._add_to_metrics(target, result)
        return {'output': mixed.logits, **result}

    def _original(self, target: MixedTarget) -> Optional[torch.Tensor]:
        if not self.criterion.needs_original or not (target.mixed or self._always_both):
            return None
        if target.original is None:
            raise ValueError('target.original must hold the unmixed images, got None')
        if self.original_scale == 1.:
            return target.original
        size = [max(1, round(side * self.original_scale)) for side in target.original.shape[-2:]]
        return F.interpolate(target.original, size=size, mode='bilinear', antialias=True)

    @torch.no_grad()
    def _add_to_metrics(self, target: MixedTarget, result: Dict[str, torch.Tensor]) -> None:
        # summed on the device, so that no step waits for it
        lam, corrected = target.lam, result['lam']
        count = len(target)
        sums = torch.stack([
            lam.sum(),
            corrected.sum(),
            (corrected - lam).abs().sum(),
            count * result['classification'].float(),
            count * result['uncertainty'],
            torch.full_like(lam[0], count),
        ])
        self._totals = sums if self._totals is None else self._totals + sums

    def pop_metrics(self) -> Dict[str, float]:
        """Return means over the samples since the last call, over all processes, and start anew.

        Returns:
            Dictionary of 'lam', 'corrected_lam', 'shift' (mean |corrected - lam|), 'classification' and
            'uncertainty'; empty if there was no sample.
        """
        totals, self._totals = self._totals, None
        if totals is None:
            return {}
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(totals)
        *sums, count = totals.tolist()
        return {name: total / count for name, total in zip(METRICS, sums)}

    def prepare_distributed(self, device_ids: Optional[list] = None, **ddp_kwargs) -> 'SUMixTask':
        """Wrap model and head in one DistributedDataParallel; on the CPU, device_ids are left out as it demands."""
        if next(self.trainable_module.parameters()).device.type == 'cpu':
            device_ids = None
        return super().prepare_distributed(device_ids=device_ids, **ddp_kwargs)

    def compile(self, backend: str = 'inductor', mode: Optional[str] = None, **compile_kwargs) -> nn.Module:
        """Compile the training forward (both passes) and, apart, the model that is validated."""
        self.eval_model = torch.compile(self.trainable_module.model, backend=backend, mode=mode, **compile_kwargs)
        self.trainable_module = torch.compile(self.trainable_module, backend=backend, mode=mode, **compile_kwargs)
        return self.eval_model

    def get_eval_model(self, module: Optional[nn.Module] = None, ema: bool = False) -> Optional[nn.Module]:
        """Return the timm model itself, which is what is validated and saved."""
        resolved = super().get_eval_model(module=module, ema=ema)
        inner = unwrap_model(resolved)
        return inner.model if isinstance(inner, SUMixTrainable) else resolved

    def get_clip_parameters(self, exclude_head: bool = False):
        """Return the parameters to clip; without head, neither classifier nor uncertainty head are among them."""
        trainable = unwrap_model(self.trainable_module)
        return list(trainable.model.parameters())[:-2] if exclude_head else list(trainable.parameters())

    def get_task_state(self, module: Optional[nn.Module] = None, ema: bool = False) -> Dict[str, Any]:
        """Return {'uncertainty': the head's state dict}, or {} without head."""
        head = self._head(module, ema)
        return {} if head is None else {'uncertainty': head.state_dict()}

    def load_task_state(
            self,
            state: Optional[Dict[str, Any]],
            strict: bool = True,
            module: Optional[nn.Module] = None,
            ema: bool = False,
    ) -> None:
        """Load the head.

        Raises:
            ValueError: If strict and the checkpoint has a head while the task has none, or the other way round: the
                optimizer's state would not fit either.
        """
        head = self._head(module, ema)
        saved = (state or {}).get('uncertainty')
        if strict and (head is None) != (saved is None):
            raise ValueError(
                f'the checkpoint was made {"with" if saved else "without"} an uncertainty head, and this run has '
                f'{"one" if head is not None else "none"}: resume with the same uncertainty and gamma, or begin anew '
                'from its weights (initial_checkpoint)')
        if head is not None and saved is not None:
            head.load_state_dict(saved, strict=strict)

    def _head(self, module: Optional[nn.Module], ema: bool) -> Optional[nn.Module]:
        module = self.get_trainable_module(ema=ema) if module is None else module
        return None if module is None else unwrap_model(module).uncertainty


def check_task_options(uncertainty: str, original_pass: str, original_scale: float) -> None:
    """Raise ValueError unless the options are among those that SUMixTask knows."""
    if uncertainty not in UNCERTAINTIES:
        raise ValueError(f'uncertainty must be one of {list(UNCERTAINTIES)}, got {uncertainty!r}')
    if original_pass not in ORIGINAL_PASSES:
        raise ValueError(f'original_pass must be one of {list(ORIGINAL_PASSES)}, got {original_pass!r}')
    if not 0. < original_scale <= 1.:
        raise ValueError(f'original_scale must be in (0, 1], got {original_scale}')


def _create_criterion(criterion: Optional[Callable], criterion_kwargs: Dict[str, Any]) -> nn.Module:
    if criterion is not None:
        raise ValueError('either criterion or criterion_kwargs must be given, got both')
    from timm.loss import create_classification_loss  # timm 1.0.27 and 1.0.28 have neither it nor this argument
    return create_classification_loss(**criterion_kwargs)


def _check_model(model: nn.Module, num_classes: int, needs_features: bool, original_scale: float) -> None:
    name = type(model).__name__
    model_classes = getattr(model, 'num_classes', num_classes)
    if model_classes != num_classes:
        raise ValueError(f'mixup has num_classes {num_classes}, but {name} has {model_classes}: they must be the same')
    missing = [part for part in ('forward_features', 'forward_head') if not hasattr(model, part)]
    if needs_features and missing:
        raise TypeError(
            f"uncertainty 'head' and ratios 'place' and 'feature' need a model with forward_features and forward_head, "
            f"{name} lacks {missing}: use uncertainty 'logits' or 'none' and ratio 'similarity'")
    if original_scale != 1. and _has_fixed_size(model):
        raise ValueError(
            f'original_scale must be 1 for {name}, whose input size is fixed, got {original_scale} (timm makes some '
            'such models flexible by --model-kwargs dynamic_img_size=True)')


def _has_fixed_size(model: nn.Module) -> bool:
    config = getattr(model, 'pretrained_cfg', None) or {}
    flexible = getattr(model, 'dynamic_img_size', False)
    strict = getattr(getattr(model, 'patch_embed', None), 'strict_img_size', True)
    return bool(config.get('fixed_input_size', False)) and not flexible and strict


def _num_features(model: nn.Module) -> int:
    size = getattr(model, 'head_hidden_size', None) or getattr(model, 'num_features', None)
    if not size:
        raise TypeError(
            f"uncertainty 'head' needs a model with head_hidden_size or num_features, {type(model).__name__} has "
            "neither: use uncertainty 'logits' or 'none'")
    return size
