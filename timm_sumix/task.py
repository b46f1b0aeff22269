"""SUMix as a timm.task: the model, an uncertainty head, the mixing and the loss behind one call.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

Unlike in the authors' code, the head is kept apart from the model: a checkpoint's `state_dict` is a plain timm model's.
"""
import logging
from typing import Any, Callable, Dict, Optional, Union

import torch
import torch.nn as nn
from timm.task import ClassificationTask
from timm.utils import unwrap_model

from .compat import create_criterion
from .loss import SUMixLoss
from .metrics import Metrics
from .mixing import SUMixMixup
from .options import SUMixOptions
from .passes import SUMixModule, other_inputs
from .target import MixedTarget, ModelOutput, check_labels

_logger = logging.getLogger(__name__)

# extra module: what it is, and the settings that create it
PARTS = {
    'uncertainty': ('an uncertainty head', 'uncertainty and gamma'),
    'projection': ("a projection to a teacher's features", 'teacher')}
COSTS = {'none': 'as CutMix', 'no-grad': 'a second forward', 'grad': 'a second forward and backward'}


class SUMixTask(ClassificationTask):
    """Classification of mixed images under corrected labels, in place of timm's ClassificationTask.

    Args:
        model: A timm model. All but ratio 'area', and two-pass 'similarity', need forward_features and forward_head.
        mixup: Mixes batches that come with integer labels, on their device. It is left as it is.
        criterion: Over (logits [N, C], soft target [N, C]); None: soft-target cross-entropy, with multi_label binary.
        options: Settings of the correction, such as SUMixOptions.preset('paper'); None: the defaults.
        criterion_kwargs: Arguments for timm.loss.create_classification_loss instead of a criterion (newer timm).
        device: Device of the head and the criterion; None: the model's. The model is left where it is.
        dtype: Dtype of the head; None: the model's.
        verbose: Log the settings.
        **changes: Fields of SUMixOptions that differ from `options`, such as ratio='similarity'.

    TypeError if model or mixup lacks something, or a keyword is unknown; ValueError if options or classes do not fit.

        >>> mixup = SUMixMixup(cutmix_alpha=1., mixup_alpha=0., num_classes=10)
        >>> task = SUMixTask(timm.create_model('resnet18', num_classes=10), mixup)
        >>> task(images, labels)['loss'].backward()
    """
    criterion: SUMixLoss
    trainable_module: Any  # a SUMixModule, or what wraps it
    eval_model: Any  # once compiled

    def __init__(
            self, model: nn.Module, mixup: SUMixMixup, criterion: Optional[Callable] = None,
            options: Optional[SUMixOptions] = None, *, criterion_kwargs: Optional[Dict[str, Any]] = None,
            device: Optional[torch.device] = None, dtype: Optional[torch.dtype] = None, verbose: bool = True,
            **changes: Any):
        if not isinstance(mixup, SUMixMixup):
            raise TypeError(f'mixup must be a SUMixMixup (of FastCollateSUMix its .mixup), got {type(mixup).__name__}')
        loss = SUMixLoss(create_criterion(criterion, criterion_kwargs, mixup.multi_label), options, **changes)
        options, ratio = loss.options, loss.ratio
        if mixup.multi_label:
            loss.check_multi_label()
        term = options.uncertainty if options.gamma > 0 else None
        module = SUMixModule(model, ratio, options.resolved_pass, term, verbose)
        classes = getattr(model, 'num_classes', mixup.num_classes)
        if classes != mixup.num_classes:
            raise ValueError(f'mixup has num_classes {mixup.num_classes}, but {type(model).__name__} has {classes}')
        own = next(model.parameters(), torch.empty(0))
        device = own.device if device is None else device
        if term == 'head':
            # the former where the head has a hidden layer
            size = getattr(model, 'head_hidden_size', None) or getattr(model, 'num_features', None)
            if not size:
                raise TypeError(
                    f'the term needs head_hidden_size or num_features, {type(model).__name__} has neither: use gamma 0')
            module.uncertainty = nn.Linear(size, mixup.num_classes, device=device, dtype=dtype or own.dtype)
        super().__init__(module, loss, device=device, dtype=dtype, verbose=verbose)
        self.mixup = mixup
        self._unmixes = options.unmixes
        self.metrics = Metrics()
        # called with (mixed images, target, corrected lam) after each mixed batch; for previews
        self.after_batch: Optional[Callable[[torch.Tensor, MixedTarget, torch.Tensor], None]] = None
        if verbose:
            self._log_settings()

    def forward(self, input: torch.Tensor, target: Union[torch.Tensor, MixedTarget]) -> Dict[str, torch.Tensor]:
        """Mix the batch, unless it is mixed already; return what SUMixLoss does, and 'output': its logits [N, C].

        In eval mode nothing is mixed, smoothed or added to metrics: the loss is the base criterion's for the labels.

        Args:
            input: Images [N, C, H, W]: unmixed ones with integer labels, mixed ones with a MixedTarget.
            target: Labels [N], int64 (multi_label: [N, C], floating point), or SUMixMixup's MixedTarget.
        """
        self.prepare(input)
        if not isinstance(target, MixedTarget) and self.is_training:
            input, target = self.mixup(input, target)
        elif not isinstance(target, MixedTarget):
            check_labels(target, self.mixup.num_classes, self.mixup.multi_label)
            target = MixedTarget(target, None, self.mixup.num_classes)
        # SyncBatchNorm makes processes wait for each other in each pass: all must make the same number of them
        passes_twice = self.criterion.options.resolved_pass != 'none' and (target.mixed or self.is_training and any(
            isinstance(module, nn.SyncBatchNorm) for module in self.trainable_module.modules()))
        inputs = other_inputs(target, passes_twice, self._unmixes)
        mixed_output, original_output = self.trainable_module(input, *inputs)
        result = self.criterion(mixed_output, original_output, target)
        if self.is_training:
            self.metrics.add(target, result)
            if self.after_batch is not None and target.mixed:
                self.after_batch(input, target, result['lam'])
        return self._complete(input, mixed_output, result)

    def _complete(
            self, input: torch.Tensor, mixed: ModelOutput, result: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
        """Return what forward() returns; a subclass may add to the loss."""
        return {'output': mixed.logits, **result}

    @property
    def is_training(self) -> bool:
        """Whether batches are mixed: while the model that is trained is in training mode."""
        trained = unwrap_model(self.trainable_module)
        return trained.training and trained.model.training

    def prepare(self, images: torch.Tensor) -> None:
        """Find the model's map by the first of images [N, C, H, W], else the first step does; see SUMixModule."""
        unwrap_model(self.trainable_module).prepare(images)

    def pop_metrics(self) -> Dict[str, float]:
        """Return means over the samples since the last call, over all processes; empty if there was none.

        Keys: 'lam', 'corrected_lam', 'shift' (mean |corrected - lam|), 'classification' and 'uncertainty'.
        """
        return self.metrics.pop()

    def prepare_distributed(self, device_ids: Optional[list] = None, **ddp_kwargs) -> ClassificationTask:
        if next(self.trainable_module.parameters()).device.type == 'cpu':
            device_ids = None  # as DistributedDataParallel demands
        return super().prepare_distributed(device_ids=device_ids, **ddp_kwargs)

    def compile(  # type: ignore[override]  # timm's signature, which is not torch's
            self, backend: str = 'inductor', mode: Optional[str] = None, **compile_kwargs) -> nn.Module:
        """Compile the training forward (all passes), ratio and loss, and, apart, the model that is validated."""
        module = self.trainable_module
        self.eval_model = torch.compile(module.model, backend=backend, mode=mode, **compile_kwargs)
        self.trainable_module = torch.compile(module, backend=backend, mode=mode, **compile_kwargs)
        self.criterion.compile(backend=backend, mode=mode, **compile_kwargs)
        return self.eval_model

    def get_eval_model(self, module: Optional[nn.Module] = None, ema: bool = False) -> Optional[nn.Module]:
        resolved = super().get_eval_model(module=module, ema=ema)
        inner = unwrap_model(resolved)
        return inner.model if isinstance(inner, SUMixModule) else resolved

    def get_clip_parameters(self, exclude_head: bool = False):
        trainable = unwrap_model(self.trainable_module)
        if not exclude_head:
            return list(trainable.parameters())
        kept = [] if trainable.projection is None else trainable.projection.parameters()  # as timm's distillation does
        return [*list(trainable.model.parameters())[:-2], *kept]

    def _log_settings(self) -> None:
        options, ratio, made = self.criterion.options, self.criterion.ratio, self.criterion.options.resolved_pass
        term = f' Uncertainty term: gamma {options.gamma:g} ({options.uncertainty}).' if options.gamma else ''
        _logger.info(f'SUMix: labels corrected by {ratio.origin}; ratio {ratio}.{term}')
        _logger.info(f'SUMix: pass over the unmixed images: {made}; cost: {COSTS[made]}.')
        part = self.mixup.corrected_part
        if part < 1. and ratio.name != 'area':
            _logger.log(logging.INFO if part else logging.WARNING, (
                f'SUMix: labels of {part:.0%} of the images can be corrected; others are not mixed, or by mixup.'))
        if options.unmixes and part and self.mixup.mode == 'elem':
            _logger.info("SUMix: in 'elem' a pair can hide parts: mode 'pair' (--mixup-mode pair) gives truer labels.")

    def get_task_state(self, module: Optional[nn.Module] = None, ema: bool = False) -> Dict[str, Any]:
        return {name: part.state_dict() for name, part in self._parts(module, ema).items()}

    def load_task_state(
            self, state: Optional[Dict[str, Any]], strict: bool = True, module: Optional[nn.Module] = None,
            ema: bool = False) -> None:
        """Load the parts that are trained beside the model; ValueError if strict and the checkpoint has others."""
        parts, state = self._parts(module, ema), state or {}
        for name, (what, settings) in PARTS.items():
            if strict and (name in parts) != (name in state):
                raise ValueError(  # the optimizer's state would not fit
                    f'the checkpoint was made {"with" if name in state else "without"} {what}, and this run has '
                    f'{"one" if name in parts else "none"}: resume with the same {settings}, or begin anew from its '
                    'weights (initial_checkpoint; train_patch: --no-resume-opt)')
            if name in parts and name in state:
                parts[name].load_state_dict(state[name], strict=strict)

    def _parts(self, module: Optional[nn.Module], ema: bool) -> Dict[str, nn.Module]:
        module = self.get_trainable_module(ema=ema) if module is None else module
        if module is None:
            return {}
        parts = {name: getattr(unwrap_model(module), name) for name in PARTS}
        return {name: part for name, part in parts.items() if part is not None and len(part.state_dict())}
