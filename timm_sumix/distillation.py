"""Distillation with mixed images under corrected labels."""
from typing import Any, Dict, Optional

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.task import FeatureDistillationTask, LogitDistillationTask, TokenDistillationTask

from .mixing import SUMixMixup
from .options import SUMixOptions
from .target import ModelOutput
from .task import SUMixTask


class SUMixDistillationTask(SUMixTask):
    """One of timm's distillation tasks, on mixed images whose labels are corrected.

    Student and teacher see the same mixed images. The labels' loss is SUMix's; the teacher's and weights are timm's.

    Args:
        distillation: timm's LogitDistillationTask, FeatureDistillationTask or TokenDistillationTask (else TypeError),
            with its student, teacher, weights, and a criterion that takes soft targets [N, C]. It is taken over.
        mixup, options, verbose, **changes: As SUMixTask takes them.
    """

    def __init__(
            self, distillation: Any, mixup: SUMixMixup, options: Optional[SUMixOptions] = None, *, verbose: bool = True,
            **changes: Any):
        if not isinstance(distillation, (LogitDistillationTask, FeatureDistillationTask, TokenDistillationTask)):
            raise TypeError(f"distillation must be one of timm's distillation tasks, got {type(distillation).__name__}")
        student: Any = distillation.trainable_module
        projection: Optional[nn.Module] = None
        self._of_features = isinstance(distillation, FeatureDistillationTask)
        if self._of_features:
            student, projection = student.student, student.projection or nn.Identity()
        super().__init__(student, mixup, distillation.criterion, options, verbose=verbose, **changes)
        self.trainable_module.projection = projection
        self.teacher: Any = distillation.teacher
        self.teacher.requires_grad_(False)
        self._part = 'distill_loss' if isinstance(distillation, TokenDistillationTask) else 'kd_loss'
        self._is_hard = getattr(distillation, 'distill_type', 'soft') == 'hard'
        self._temperature = getattr(distillation, 'temperature', 1.)
        self._weights = distillation.task_loss_weight, distillation.distill_loss_weight
        for name in ('student_mean', 'student_std'):
            self.register_buffer(name, getattr(distillation, name), persistent=False)

    def train(self, mode: bool = True) -> 'SUMixDistillationTask':
        """Set the student's mode; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def _complete(
            self, input: torch.Tensor, mixed: ModelOutput, result: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
        """Add the teacher's loss to 'loss', and both parts: 'task_loss', and 'kd_loss' or for tokens 'distill_loss'."""
        result = super()._complete(input, mixed, result)
        if not self.is_training:  # nothing is mixed or distilled
            return result
        with torch.no_grad():
            images = self.teacher.normalize_input(input, self.student_mean, self.student_std)
            taught = self.teacher(images, return_features=True) if self._of_features else self.teacher(images)
        distilled = self._distillation_loss(mixed.logits if mixed.distilled is None else mixed.distilled, taught)
        task_weight, distill_weight = self._weights
        loss = task_weight * result['loss'] + distill_weight * distilled
        return {**result, 'loss': loss, 'task_loss': result['loss'], self._part: distilled}

    def _distillation_loss(self, own: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits [N, C] or features [N, D] against the teacher's, a scalar, as timm's tasks do."""
        if self._of_features:
            return F.mse_loss(own, taught)
        if self._is_hard:
            return F.cross_entropy(own, taught.argmax(dim=-1))
        student, teacher = (F.log_softmax(logits / self._temperature, dim=-1) for logits in (own, taught))
        return F.kl_div(student, teacher, reduction='batchmean', log_target=True) * self._temperature ** 2

    def compile(  # type: ignore[override]
            self, backend: str = 'inductor', mode: Optional[str] = None, **compile_kwargs) -> nn.Module:
        """Compile the student's training forward, ratio and loss, the validated model, and the teacher."""
        eval_model = super().compile(backend=backend, mode=mode, **compile_kwargs)
        parts = {'compile_model': False, 'compile_features': True} if self._of_features else {}
        self.teacher.compile(backend=backend, mode=mode, **parts, **compile_kwargs)
        return eval_model
