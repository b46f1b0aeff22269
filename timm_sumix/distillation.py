"""Distillation with mixed images under corrected labels."""
from typing import Any, Dict, Optional

import torch
import torch.nn as nn
from timm.task import FeatureDistillationTask, LogitDistillationTask, TokenDistillationTask

from .mixing import SUMixMixup
from .options import SUMixOptions
from .target import ModelOutput
from .task import SUMixTask


class SUMixDistillationTask(SUMixTask):
    """One of timm's distillation tasks, on mixed images whose labels are corrected.

    Student and teacher see the same mixed images. The loss against the labels is SUMix's; that against the teacher, and
    how both are weighted, are timm's.

    Args:
        distillation: timm's LogitDistillationTask, FeatureDistillationTask or TokenDistillationTask, with its student,
            teacher, weights, and a criterion that takes soft targets [N, C]. It is taken over.
        mixup: Mixes batches that come with integer labels, on their device.
        options: Settings of the correction; None: the defaults.
        verbose: Log the settings.
        **changes: Fields of SUMixOptions that differ from `options`, such as ratio='similarity'.

    Raises:
        TypeError: If distillation is no such task, or as SUMixTask says.
        ValueError: As SUMixTask says.
    """

    def __init__(
            self,
            distillation: Any,
            mixup: SUMixMixup,
            options: Optional[SUMixOptions] = None,
            *,
            verbose: bool = True,
            **changes: Any,
    ):
        if not isinstance(distillation, (LogitDistillationTask, FeatureDistillationTask, TokenDistillationTask)):
            raise TypeError(f"distillation must be one of timm's distillation tasks, got {type(distillation).__name__}")
        student: Any = distillation.trainable_module
        projection: Optional[nn.Module] = None
        if isinstance(distillation, FeatureDistillationTask):
            student, projection = student.student, student.projection or nn.Identity()
        super().__init__(student, mixup, distillation.criterion, options, verbose=verbose, **changes)
        self.trainable_module.projection = projection
        self.distillation: Any = distillation
        self.distillation.teacher.requires_grad_(False)
        del distillation.trainable_module, distillation.criterion

    def train(self, mode: bool = True) -> 'SUMixDistillationTask':
        """Set the student's mode; the teacher stays in eval mode."""
        super().train(mode)
        self.distillation.teacher.eval()
        return self

    def _complete(
            self, input: torch.Tensor, mixed: ModelOutput, result: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
        """Add the loss against the teacher; without mixing, in eval mode, nothing is distilled.

        'loss' becomes the whole loss; 'task_loss', and 'kd_loss' or of tokens 'distill_loss', are its parts.
        """
        result = super()._complete(input, mixed, result)
        if not self.is_training:
            return result
        own, timms = mixed.logits if mixed.distilled is None else mixed.distilled, self.distillation
        given = own if isinstance(timms, LogitDistillationTask) else (mixed.logits, own)
        timms.trainable_module, timms.criterion = lambda _: given, lambda *_: result['loss']  # both are made already
        distilled = timms(input, None)
        del timms.trainable_module, timms.criterion  # and with them the step's graph
        return {**distilled, **result, 'loss': distilled['loss']}

    def compile(  # type: ignore[override]
            self, backend: str = 'inductor', mode: Optional[str] = None, **compile_kwargs) -> nn.Module:
        """Compile the student's training forward, ratio and loss, the validated model, and the teacher."""
        eval_model = super().compile(backend=backend, mode=mode, **compile_kwargs)
        of_features = isinstance(self.distillation, FeatureDistillationTask)
        parts = {'compile_model': False, 'compile_features': True} if of_features else {}
        self.distillation.teacher.compile(backend=backend, mode=mode, **parts, **compile_kwargs)
        return eval_model

    def get_clip_parameters(self, exclude_head: bool = False):
        """Return the parameters to clip; without head, the projection to a teacher's features stays, as in timm."""
        parameters = super().get_clip_parameters(exclude_head)
        projection = self._parts(None, ema=False).get('projection') if exclude_head else None
        return parameters if projection is None else [*parameters, *projection.parameters()]
