"""Runs a train script with SUMix in the places of timm's classes, swapped by name: no copy, no line numbers.

Mixup, FastCollateMixup, timm's tasks and create_loader are swapped in timm's packages while the script runs, the
classes also among the script's own globals, as are train_one_epoch and its parser's parse_args.
"""
import argparse
import inspect
import logging
import sys
from functools import wraps
from types import MethodType, ModuleType
from typing import Any, Callable, Dict, Iterable, Optional

import timm.task
import torch
from timm.data import FastCollateMixup, Mixup, create_loader, resolve_data_config
from timm.task import ClassificationTask, FeatureDistillationTask, LogitDistillationTask, TokenDistillationTask
from timm.utils import random_seed
from torch.utils.data import DataLoader

from timm_sumix import FastCollateSUMix, SUMixDistillationTask, SUMixMixup, SUMixTask
from timm_sumix.maps import find_map

from .criterion import check_criterion
from .data import check_classes, check_first_labels, inner_loader, label_errors_told, loader_among
from .flags import Settings, add_flags, resolve
from .masks import MaskedMixup, carry_masks, look_at_some, with_masks
from .preview import Preview
from .resume import begin_head_anew
from .script import TASK, load_script
from .swap import StandIn, swapped
from .versions import refuse_script, told_in_one_line

_logger = logging.getLogger('train_patch')

EPOCH_SEEDS = 100_003  # between the seeds of one epoch and the next: more than there are processes or seeds
MULTI_LABEL: Any = getattr(timm.task, 'MultiLabelClassificationTask', None)  # of newer timm
DISTILLATION = (LogitDistillationTask, FeatureDistillationTask, TokenDistillationTask)
OF_MIXUP, OF_TASK = (inspect.signature(kind).parameters for kind in (SUMixMixup, SUMixTask))  # what they can be given


def run_with_sumix(script: str) -> None:
    """Load the train script, put SUMix in, and call its main()."""
    patch = Patch()
    with told_in_one_line(script), swapped(patch.stand_ins):
        module = load_script(script)
        patch.put_into(module)
        module.main()


class Patch:
    """Swaps SUMix into a train script, and holds the state that the replacements share.

    Attributes:
        stand_ins: What stands in for timm's classes and for create_loader, by the original.
    """

    def __init__(self) -> None:
        self.script = ''  # the file, once it is loaded
        self.settings: Settings  # once the arguments are parsed
        self.mixup: Optional[SUMixMixup] = None  # once the script makes it
        self.task: Optional[SUMixTask] = None
        self.args: argparse.Namespace  # as the script gets them
        self.seed = 0
        self.generator = torch.Generator()  # what the training loader's workers are seeded from
        self.has_masks = False  # once the script makes a loader of images with masks
        self.stand_ins: Dict[Any, Any] = {
            Mixup: StandIn.of(Mixup, self._create_mixup, OF_MIXUP),
            FastCollateMixup: StandIn.of(FastCollateMixup, self._create_collate, OF_MIXUP),
            ClassificationTask: StandIn.of(ClassificationTask, self._create_task, OF_TASK),
            **{kind: self._stand_in_for(kind) for kind in DISTILLATION},
            **({} if MULTI_LABEL is None else {
                MULTI_LABEL: StandIn.of(MULTI_LABEL, self._create_multi_label_task, (*OF_TASK, 'threshold'))}),
            create_loader: self._loads_masks(create_loader),
        }

    def put_into(self, module: ModuleType) -> None:
        """Put the flags and the replacements into a loaded train script."""
        self.script = str(module.__file__)
        add_flags(module.parser)
        module.parser.parse_args = self._parse_args(module.parser, module.parser.parse_args)
        module.train_one_epoch = self._train_one_epoch(module.train_one_epoch)  # type: ignore[attr-defined]
        for original, stand_in in self.stand_ins.items():
            if isinstance(stand_in, StandIn):
                setattr(module, original.__name__, stand_in)

    def _parse_args(self, parser, parse_args: Callable) -> Callable:
        def parse_and_resolve(*args, **kwargs):
            parsed = parse_args(*args, **kwargs)
            if parsed.sumix:  # not so where a script asks for its defaults alone
                self.settings = resolve(parsed, parser)
                self.seed, self.args = parsed.seed, parsed
            return parsed
        return parse_and_resolve

    def _create_mixup(self, **kwargs) -> SUMixMixup:
        kind = MaskedMixup if self.settings.masks else SUMixMixup
        self.mixup = kind(**self._mixup_arguments(kwargs))
        return self.mixup

    def _create_collate(self, **kwargs) -> FastCollateSUMix:
        collate = FastCollateSUMix(**self._mixup_arguments(kwargs))
        if self.settings.masks:
            collate.mixup = self._create_mixup(**kwargs)
        self.mixup = collate.mixup
        return collate

    def _loads_masks(self, create_loader: Callable) -> Callable:
        @wraps(create_loader)
        def create(dataset, *args, **kwargs) -> Any:
            given = {**dict(zip(inspect.signature(create_loader).parameters, (dataset, *args))), **kwargs}
            if not self.settings.masks or not given.get('is_training'):
                return create_loader(dataset, *args, **kwargs)
            try:
                dataset = with_masks(dataset, self.settings.masks, self.args.data_dir)
                look_at_some(dataset)
            except ValueError as error:
                sys.exit(f'train_patch: --sumix-masks: {error}')
            loader = create_loader(dataset, *args, **kwargs)
            carry_masks(loader)
            self.has_masks = True
            return loader
        return create

    def _mixup_arguments(self, given: Dict[str, Any]) -> Dict[str, Any]:
        if given.get('label_smoothing', 0.) is None:  # what the flags left open, the script must have resolved by now
            raise ValueError('--smoothing must be in [0, 1), and the script mixes with None')
        return {**given, **self.settings.mixup}

    def _stand_in_for(self, kind: type) -> StandIn:
        def create(student_model, verbose=True, **kwargs) -> SUMixTask:
            own = kind(student_model=student_model, verbose=verbose, **kwargs)
            is_teachers = self.settings.teacher_shares
            mixup = self._mixup_for(own.teacher.model if is_teachers else student_model, student_model)
            return self._started(SUMixDistillationTask(
                own, mixup, self.settings.options, teacher_shares=is_teachers, verbose=verbose))
        return StandIn.of(kind, create, inspect.signature(kind).parameters)

    def _create_task(self, model, criterion=None, **kwargs) -> SUMixTask:
        mixup = self._mixup_for(model, model)
        return self._started(SUMixTask(model, mixup, criterion, self.settings.options, **kwargs))

    def _create_multi_label_task(self, model, criterion=None, threshold=0.5, **kwargs) -> SUMixTask:
        task: Any = self._create_task(model, criterion, **kwargs)
        task.threshold, task.create_evaluator = threshold, MethodType(MULTI_LABEL.create_evaluator, task)
        return task

    def _mixup_for(self, model: Any, trained: Any) -> SUMixMixup:
        """Return the script's mixup, and find the map that shares are read from, of this model."""
        if self.mixup is None:
            refuse_script(self.script, 'makes its task without Mixup or FastCollateMixup')
        # at the run's own size: small images may leave the model's last map a single place
        if self.settings.options.unmixes:
            find_map(model, resolve_data_config(vars(self.args), model=trained)['input_size'][1:])
        return self.mixup

    def _started(self, task: SUMixTask) -> SUMixTask:
        self.task = task
        check_criterion(task.criterion.base, task.mixup.num_classes, task.device)
        check_first_labels(task, task.mixup.num_classes)
        if getattr(self.args, 'no_resume_opt', False):
            begin_head_anew(task)
        return task

    def _train_one_epoch(self, train_one_epoch: Callable) -> Callable:
        def train_and_report(epoch: int, *args, **kwargs) -> Dict[str, Any]:
            if self.task is None:
                refuse_script(self.script, f'made another task than {TASK}')
            if self.settings.masks and not self.has_masks:
                refuse_script(self.script, 'made its loader without create_loader, which reads the masks')
            arguments, num_classes = [*args, *kwargs.values()], self.task.mixup.num_classes
            if not self.task.mixup.multi_label:  # else folders are no classes
                check_classes(loader_among(arguments), num_classes)
            self._seed_epoch(epoch, arguments)
            self.task.after_batch = Preview.of_epoch(epoch, self.settings.preview, arguments)
            with label_errors_told(num_classes):
                metrics = train_one_epoch(epoch, *args, **kwargs)
            self._report(epoch, metrics, self.task)
            return metrics
        return train_and_report

    def _seed_epoch(self, epoch: int, arguments: Iterable[Any]) -> None:
        """Make an epoch's draws depend on seed, epoch and process alone: a resumed run repeats an uninterrupted one."""
        # NumPy's seeds end at 2 ** 32, and random_seed adds the rank
        seed = (self.seed + EPOCH_SEEDS * (epoch + 1)) % (2 ** 32 - EPOCH_SEEDS)
        for argument in arguments:
            loader = inner_loader(argument)
            if isinstance(loader, DataLoader):
                self._seed_workers(loader, seed + _rank())
        random_seed(seed, _rank())

    def _seed_workers(self, loader: DataLoader, seed: int) -> None:
        """Have the loader's workers draw anew from a seed, unless the script gave it a generator of its own."""
        if loader.generator is None:
            loader.generator = self.generator  # apart from the global one, which the workers' seed then leaves alone
        if loader.generator is self.generator:
            self.generator.manual_seed(seed)
            loader._iterator = None  # persistent workers were seeded in an earlier epoch: new ones start

    @staticmethod
    def _report(epoch: int, metrics: Dict[str, Any], task: SUMixTask) -> None:
        """Log how far labels moved in an epoch, and add it to the metrics, which the script writes to its summary."""
        means = task.pop_metrics()
        if not means:
            return
        with_mask, total = task.mixup.pop_counts() if isinstance(task.mixup, MaskedMixup) else (0, 0)
        if total:
            means['masks'] = with_mask / total
        metrics.update({f'sumix_{name}': value for name, value in means.items()})
        if not task.verbose:  # the script makes only the first process verbose
            return
        for part, step in task.metrics.not_finite.items():
            _logger.warning(
                f'SUMix: in epoch {epoch} the {part} loss was not finite, first in step {step}: images or weights are '
                'NaN or too large; try a lower --lr, --clip-grad, or --amp-dtype bfloat16.')
        gamma = task.criterion.options.gamma
        term = f' + {gamma:g} * {means["uncertainty"]:#.3g} (classification + gamma * uncertainty)' if gamma else ''
        _logger.info(
            f'SUMix: epoch {epoch}  lam: {means["lam"]:.3f} -> {means["corrected_lam"]:.3f}  '
            f'|shift|: {means["shift"]:.3f}  Loss: {means["classification"]:#.3g}{term}')
        if total:
            _logger.info(f'SUMix: epoch {epoch}  {with_mask:,} of {total:,} images had a mask of their object')


def _rank() -> int:
    """Return this process's rank, 0 where there is but one process."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if distributed else 0
