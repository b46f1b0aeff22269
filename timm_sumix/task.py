"""SUMix as a timm.task: the model, an uncertainty head, the mixing and the loss behind one call.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

Deviations from the authors' released code: the pass over the unmixed images can do without gradient, or at a lower
resolution; the head is kept apart from the model, so that `state_dict` in a checkpoint is a plain timm model.
"""
import logging
from typing import Any, Callable, Dict, Optional, Union

import torch
import torch.nn as nn
from timm.task import ClassificationTask
from timm.utils import unwrap_model

from .compat import create_criterion, device_and_dtype, has_fixed_size, has_sync_batch_norm, num_features
from .loss import SUMixLoss
from .metrics import Metrics
from .mixing import SUMixMixup
from .options import SUMixOptions
from .passes import SUMixModule, prepare_originals
from .target import MixedTarget

_logger = logging.getLogger(__name__)

COSTS = {'none': 'as CutMix', 'no-grad': 'a second forward', 'grad': 'a second forward and backward'}


class SUMixTask(ClassificationTask):
    """Classification of mixed images under corrected labels, in place of timm's ClassificationTask.

    Args:
        model: A timm model. Ratios 'evidence' and 'feature' and the uncertainty head need timm's forward_features and
            forward_head; otherwise any classifier will do.
        mixup: Mixes batches that come with integer labels, on their device.
        criterion: Any criterion over (logits [N, C], soft target [N, C]); None: soft-target cross-entropy.
        options: Settings of the correction, such as SUMixOptions.preset('paper'); None: the defaults.
        criterion_kwargs: Arguments for timm.loss.create_classification_loss instead of a criterion (newer timm).
        device: Device of the head; None: the model's. The model is left where it is.
        dtype: Dtype of the head; None: the model's.
        verbose: Log the settings.
        **changes: Fields of SUMixOptions that differ from `options`: ratio, strength, gamma, uncertainty,
            original_pass, original_scale.

    Raises:
        TypeError: If the model or mixup lacks what is needed, or a keyword is no field of SUMixOptions.
        ValueError: If an option is out of range or unknown, the numbers of classes differ, or original_scale is given
            for a model of fixed input size.

    Example:
        >>> mixup = SUMixMixup(cutmix_alpha=1., mixup_alpha=0., num_classes=10)
        >>> task = SUMixTask(timm.create_model('resnet18', num_classes=10), mixup)
        >>> task(images, labels)['loss'].backward()
    """

    criterion: SUMixLoss
    trainable_module: Any  # a SUMixModule, or what wraps it
    eval_model: Any  # once compiled

    def __init__(
            self,
            model: nn.Module,
            mixup: SUMixMixup,
            criterion: Optional[Union[nn.Module, Callable]] = None,
            options: Optional[SUMixOptions] = None,
            *,
            criterion_kwargs: Optional[Dict[str, Any]] = None,
            device: Optional[torch.device] = None,
            dtype: Optional[torch.dtype] = None,
            verbose: bool = True,
            **changes: Any,
    ):
        loss = SUMixLoss(create_criterion(criterion, criterion_kwargs), options, **changes)
        options, ratio = loss.options, loss.ratio
        if not isinstance(mixup, SUMixMixup):
            raise TypeError(
                f'mixup must be a SUMixMixup (of a FastCollateSUMix, its .mixup), got {type(mixup).__name__}')
        has_head = options.uncertainty == 'head' and loss.gamma > 0
        needs_features = has_head or ratio.features or ratio.mixed_evidence or ratio.original_evidence
        _check_model(model, mixup.num_classes, needs_features, options.original_scale)
        own_device, own_dtype = device_and_dtype(model)
        head = nn.Linear(
            num_features(model), mixup.num_classes, device=device or own_device,
            dtype=dtype or own_dtype) if has_head else None
        module = SUMixModule(model, ratio, head, original_grad=options.resolved_pass == 'grad')
        super().__init__(module, loss, device=device, dtype=dtype, verbose=verbose)
        self.mixup = mixup
        mixup.keep_original = loss.needs_original
        # SyncBatchNorm makes processes wait for each other in each pass: all must make the same number of them
        self._always_both = has_sync_batch_norm(model)
        self.metrics = Metrics()
        self._versions: Optional[int] = None
        loss.create_fading(mixup.num_classes, own_device if device is None else device)
        # called with (mixed images, target, corrected lam) after each mixed batch; for previews
        self.after_batch: Optional[Callable[[torch.Tensor, MixedTarget, torch.Tensor], None]] = None
        if verbose:
            self._log_settings()

    def _log_settings(self) -> None:
        options, ratio = self.criterion.options, self.criterion.ratio
        term = f'gamma {self.criterion.gamma:g}' + (f' ({options.uncertainty})' if self.criterion.gamma > 0 else '')
        made = options.resolved_pass
        fade = f' Targets fade below {options.fade:g} of one object.' if options.fade else ''
        scale = '' if options.original_scale == 1. else f' at {options.original_scale:g} of the resolution'
        _logger.info(f'SUMix: labels corrected by {ratio}: {ratio.origin}.{fade}')
        _logger.info(
            f'SUMix: uncertainty term: {term}. Pass over the unmixed images: {made}{scale}; cost: {COSTS[made]}.')

    def forward(
            self,
            input: torch.Tensor,
            target: Union[torch.Tensor, MixedTarget],
    ) -> Dict[str, torch.Tensor]:
        """Mix the batch, unless it is mixed already, pass it (and its unmixed images) through the model; the loss.

        In eval mode nothing is mixed: the loss is the base criterion's for the labels as they are, without smoothing,
        and the metrics are left alone.

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
            input, target = self.mixup(input, target) if self.training else (input, self._unmixed(target))
        mixed, original = self.trainable_module(input, self._original(input, target))
        result = self.criterion(mixed, original, target, self._is_new_step())
        if self.training:
            self.metrics.add(target, result)
            if self.after_batch is not None and target.mixed:
                self.after_batch(input, target, result['lam'])
        return {'output': mixed.logits, **result}

    def _unmixed(self, labels: torch.Tensor) -> MixedTarget:
        return MixedTarget(labels, torch.ones_like(labels, dtype=torch.float), self.mixup.num_classes, mixed=False)

    def _is_new_step(self) -> bool:
        """Whether the optimizer changed a parameter since the last batch; without, batches are being accumulated."""
        if self.criterion.options.fade == 0:
            return True
        before, self._versions = self._versions, sum(
            parameter._version for parameter in self.trainable_module.parameters())
        return before != self._versions

    def _original(self, mixed: torch.Tensor, target: MixedTarget) -> Optional[torch.Tensor]:
        """Return the unmixed images for their pass, None where no such pass is made."""
        if not self.criterion.needs_original or not (target.mixed or self._always_both and self.training):
            return None
        if target.original is None:
            raise ValueError('target.original must hold the unmixed images, got None')
        model = unwrap_model(self.trainable_module).model
        return prepare_originals(model, target.original, mixed, self.criterion.options.original_scale)

    def pop_metrics(self) -> Dict[str, float]:
        """Return means over the samples since the last call, over all processes, and start anew.

        Returns:
            Dictionary of 'lam', 'corrected_lam', 'shift' (mean |corrected - lam|), 'classification' and
            'uncertainty'; empty if there was no sample.
        """
        return self.metrics.pop()

    def prepare_distributed(self, device_ids: Optional[list] = None, **ddp_kwargs) -> ClassificationTask:
        """Wrap model and head in one DistributedDataParallel; on the CPU, device_ids are left out as it demands."""
        if next(self.trainable_module.parameters()).device.type == 'cpu':
            device_ids = None
        return super().prepare_distributed(device_ids=device_ids, **ddp_kwargs)

    def compile(  # type: ignore[override]  # timm's signature, which is not torch's
            self, backend: str = 'inductor', mode: Optional[str] = None, **compile_kwargs) -> nn.Module:
        """Compile the training forward (both passes) and, apart, the model that is validated."""
        module = self.trainable_module
        self.eval_model = torch.compile(module.model, backend=backend, mode=mode, **compile_kwargs)
        self.trainable_module = torch.compile(module, backend=backend, mode=mode, **compile_kwargs)
        return self.eval_model

    def get_eval_model(self, module: Optional[nn.Module] = None, ema: bool = False) -> Optional[nn.Module]:
        """Return the timm model itself, which is what is validated and saved."""
        resolved = super().get_eval_model(module=module, ema=ema)
        inner = unwrap_model(resolved)
        return inner.model if isinstance(inner, SUMixModule) else resolved

    def get_clip_parameters(self, exclude_head: bool = False):
        """Return the parameters to clip; without head, neither classifier nor uncertainty head are among them."""
        trainable = unwrap_model(self.trainable_module)
        return list(trainable.model.parameters())[:-2] if exclude_head else list(trainable.parameters())

    def get_task_state(self, module: Optional[nn.Module] = None, ema: bool = False) -> Dict[str, Any]:
        """Return the state dicts of the uncertainty head and of the fading's class totals, where there are any."""
        head, fading = self._head(module, ema), None if ema else self.criterion.fading
        parts = {'uncertainty': head, 'fading': fading}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_task_state(
            self,
            state: Optional[Dict[str, Any]],
            strict: bool = True,
            module: Optional[nn.Module] = None,
            ema: bool = False,
    ) -> None:
        """Load the head, and the class totals where the checkpoint has them.

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
        if self.criterion.fading is not None and not ema:
            self.criterion.fading.load_totals((state or {}).get('fading'))

    def _head(self, module: Optional[nn.Module], ema: bool) -> Optional[nn.Module]:
        module = self.get_trainable_module(ema=ema) if module is None else module
        return None if module is None else unwrap_model(module).uncertainty


def _check_model(model: nn.Module, num_classes: int, needs_features: bool, original_scale: float) -> None:
    name = type(model).__name__
    model_classes = getattr(model, 'num_classes', num_classes)
    if model_classes != num_classes:
        raise ValueError(f'mixup has num_classes {num_classes}, but {name} has {model_classes}: they must be the same')
    missing = [part for part in ('forward_features', 'forward_head') if not hasattr(model, part)]
    if needs_features and missing:
        raise TypeError(
            "uncertainty 'head' and ratios 'evidence' and 'feature' need a model with forward_features and "
            f"forward_head, {name} lacks {missing}: use uncertainty 'logits' or 'none' and ratio 'similarity'")
    if original_scale != 1. and has_fixed_size(model):
        raise ValueError(
            f'original_scale must be 1 for {name}, whose input size is fixed, got {original_scale} (timm makes some '
            'such models flexible by --model-kwargs dynamic_img_size=True)')
