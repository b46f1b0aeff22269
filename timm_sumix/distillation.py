"""Distillation with mixed images under corrected labels: timm's distillation tasks, around SUMixTask.

The student and the teacher see the same mixed images. The loss against the labels is SUMix's; the loss against the
teacher, and how both are weighted, are timm's own.
"""
import copy
import logging
from typing import Any, Dict, Optional

import torch
import torch.nn as nn
from timm.task import FeatureDistillationTask, LogitDistillationTask, TokenDistillationTask

from .checks import check_compilable, check_model, mixing_of, original_images
from .mixing import SUMixMixup
from .options import SUMixOptions, resolve_options
from .passes import SUMixModule
from .target import MixedTarget, ModelOutput
from .task import SUMixTask

_logger = logging.getLogger(__name__)


class SUMixDistillationTask(SUMixTask):
    """One of timm's distillation tasks, on mixed images whose labels are corrected.

    Args:
        distillation: timm's LogitDistillationTask, FeatureDistillationTask or TokenDistillationTask, with its student,
            teacher, weights, and a criterion that takes soft targets [N, C]. This task takes it over.
        mixup: Mixes batches that come with integer labels, on their device.
        options: Settings of the correction; None: the defaults.
        teacher_shares: Read the shares from the teacher's pass in place of the student's. They are true from the first
            epoch, if the teacher is; and cost little, as the teacher sees the mixed images anyway.
        verbose: Log the settings.
        **changes: Fields of SUMixOptions that differ from `options`, such as ratio='similarity'.

    Raises:
        TypeError: If distillation is no such task, or as SUMixTask says.
        ValueError: As SUMixTask says; or if teacher_shares comes with gamma, clean or fade, which need the student's
            own outputs, or with ratio 'area' or 'released'.

    Example:
        >>> distillation = LogitDistillationTask(student, teacher, SoftTargetCrossEntropy(), task_loss_weight=0.5)
        >>> task = SUMixDistillationTask(distillation, mixup)
        >>> task(images, labels)['loss'].backward()
    """

    def __init__(
            self,
            distillation: Any,
            mixup: SUMixMixup,
            options: Optional[SUMixOptions] = None,
            *,
            teacher_shares: bool = False,
            verbose: bool = True,
            **changes: Any,
    ):
        if not isinstance(distillation, (LogitDistillationTask, FeatureDistillationTask, TokenDistillationTask)):
            raise TypeError(f"distillation must be one of timm's distillation tasks, got {type(distillation).__name__}")
        options = resolve_options(options, changes)
        student: Any = distillation.trainable_module
        projection = None
        self._compares_features = isinstance(distillation, FeatureDistillationTask)
        if self._compares_features:
            student, projection = student.student, student.projection or nn.Identity()
        own_options = student_options(options) if teacher_shares else options
        super().__init__(student, mixup, distillation.criterion, own_options, verbose=False)
        self.verbose = verbose
        self.trainable_module.projection = projection
        self.teacher = distillation.teacher
        self.teacher_options = options if teacher_shares else None
        self.teacher_ratio = options.create_ratio()  # of the shares, where the teacher tells them
        self.teacher_module: Any = self._teacher_module(options) if teacher_shares else None
        # timm's task combines what is computed here
        self._student, self._task_loss, self._taught = _Given(), _Given(), _Given()
        distillation.trainable_module, distillation.criterion = self._student, self._task_loss
        if teacher_shares:
            distillation.teacher = self._taught  # type: ignore[assignment]
        self.distillation: Any = distillation
        if verbose:
            self._log_settings()

    def _teacher_module(self, options: SUMixOptions) -> SUMixModule:
        ratio, model = self.teacher_ratio, self.teacher.model
        check_model(model, ratio, options.resolved_pass)
        module = SUMixModule(model, ratio, original_pass=options.resolved_pass)
        if self._compares_features:
            module.projection = nn.Identity()
        return module.eval()

    def _log_settings(self) -> None:
        if self.teacher_options is None:
            super()._log_settings()
            return
        ratio, made = self.teacher_ratio, self.teacher_options.resolved_pass
        _logger.info(f'SUMix: labels corrected by {ratio.origin}, read from the teacher; ratio {ratio}.')
        _logger.info(f"SUMix: the teacher's pass over the unmixed images: {made}.")

    def train(self, mode: bool = True) -> 'SUMixDistillationTask':
        """Set the student's mode; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        if self.teacher_module is not None:
            self.teacher_module.eval()
        return self

    def forward(self, input: torch.Tensor, target: Any) -> Dict[str, torch.Tensor]:
        """Mix the batch, pass it through student and teacher, and combine both losses as timm does.

        In eval mode nothing is mixed or distilled, as in SUMixTask.

        Args:
            input: Images [N, C, H, W]: unmixed ones with integer labels, mixed ones with a MixedTarget.
            target: Labels [N], int64, or the MixedTarget that SUMixMixup returned.

        Returns:
            What SUMixTask returns, with 'loss' the whole loss, and the parts that timm's task names: 'task_loss', and
            'kd_loss' or 'distill_loss'.
        """
        if self.training and not isinstance(target, MixedTarget):
            input, target = self.mixup(input, target)
        if self.training and self.teacher_options is not None:
            target = self._ask_teacher(input, target)
        return super().forward(input, target)

    @torch.no_grad()
    def _ask_teacher(self, input: torch.Tensor, target: MixedTarget) -> MixedTarget:
        """Return the target with the teacher's shares; what the teacher gives for the mixed images is kept."""
        options: Any = self.teacher_options
        passes_original = options.resolved_pass != 'none' and target.mixed
        original = self._as_teacher(original_images(target, input)) if passes_original else None
        mixed, unmixed = self.teacher_module(self._as_teacher(input), original, mixing_of(target, options.unmixes))
        self._taught.value = mixed.distilled if self._compares_features else mixed.logits
        if not target.mixed:
            return target
        target = copy.copy(target)
        target.lam = self.teacher_ratio(mixed, unmixed, target)
        return target

    def _as_teacher(self, images: torch.Tensor) -> torch.Tensor:
        return self.teacher.normalize_input(images, self.distillation.student_mean, self.distillation.student_std)

    def _complete(
            self, input: torch.Tensor, mixed: ModelOutput, result: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
        if not self.training:
            return super()._complete(input, mixed, result)
        self._student.value = mixed.logits if mixed.distilled is None else (mixed.logits, mixed.distilled)
        self._task_loss.value = result['loss']
        combined = self.distillation(input, None)
        self._student.value = self._task_loss.value = self._taught.value = None
        return {**result, **combined}

    def compile(  # type: ignore[override]
            self, backend: str = 'inductor', mode: Optional[str] = None, **compile_kwargs) -> nn.Module:
        """Compile the student's training forward, ratio and loss, the validated model, and the teacher."""
        eval_model = super().compile(backend=backend, mode=mode, **compile_kwargs)
        if self.teacher_module is not None:
            check_compilable(self.teacher.model)
            self.teacher_module = torch.compile(self.teacher_module, backend=backend, mode=mode, **compile_kwargs)
        else:
            parts = {'compile_model': False, 'compile_features': True} if self._compares_features else {}
            self.teacher.compile(backend=backend, mode=mode, **parts, **compile_kwargs)
        return eval_model

    def get_clip_parameters(self, exclude_head: bool = False):
        """Return the parameters to clip; without head, the projection to a teacher's features stays, as in timm."""
        parameters = super().get_clip_parameters(exclude_head)
        projection = self._parts(None, ema=False).get('projection') if exclude_head else None
        return parameters if projection is None else [*parameters, *projection.parameters()]


class _Given(nn.Module):
    """Stands where timm's task would compute something, and returns what was computed already."""

    def __init__(self) -> None:
        super().__init__()
        self.value: Any = None

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.value

    def normalize_input(self, input: torch.Tensor, *_: Any) -> torch.Tensor:
        """Return the input, which is not read."""
        return input


def student_options(options: SUMixOptions) -> SUMixOptions:
    """Return the student's own options where the teacher tells the shares; ValueError where these need the student."""
    for name, value in (('gamma', options.gamma), ('clean', options.clean), ('fade', options.fade)):
        if value > 0:
            raise ValueError(f"with teacher_shares {name} must be 0, as it needs the student's outputs, got {value:g}")
    if options.ratio in ('area', 'released'):
        raise ValueError(
            f"with teacher_shares the ratio must give each image a share of its own, got {options.ratio!r}")
    return SUMixOptions(ratio='area')
