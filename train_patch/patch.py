"""Runs a train script with SUMix in the places of timm's classes, swapped by name: no copy, no line numbers."""
import argparse
import inspect
import sys
from functools import partial
from types import MethodType, ModuleType
from typing import Any, Callable, Dict, Optional

import timm.task
import torch
from timm.data import FastCollateMixup, Mixup, create_loader, resolve_data_config
from timm.task import ClassificationTask, FeatureDistillationTask, LogitDistillationTask, TokenDistillationTask

from timm_sumix import FastCollateSUMix, SUMixDistillationTask, SUMixMixup, SUMixTask

from .checks import check_classes, check_criterion, check_first_labels, exit_on_bad_label, loader_among
from .config import given_keys
from .epochs import report, seed_epoch
from .errors import exit_on_mismatch, exit_on_user_error, logger, refuse_script
from .flags import Settings, add_flags, resolve
from .masks import MaskedMixup, carry_masks, look_at_some, with_masks
from .preview import preview_of
from .script import load_script, stand_in, swapped

MULTI_LABEL: Any = getattr(timm.task, 'MultiLabelClassificationTask', None)  # of newer timm
DISTILLATION = (LogitDistillationTask, FeatureDistillationTask, TokenDistillationTask)
TASKS = tuple(kind for kind in (ClassificationTask, MULTI_LABEL, *DISTILLATION) if kind is not None)
PARTS = {'uncertainty': 'uncertainty head', 'projection': "projection to a teacher's features"}


def run_with_sumix(script: str) -> None:
    """Load the train script, put SUMix in, and call its main()."""
    patch = Patch()
    with exit_on_mismatch(), swapped(patch.stand_ins):
        module = load_script(script)
        patch.put_into(module)
        module.main()


class Patch:
    """Swaps SUMix into a train script, and holds the state that the replacements share."""

    def __init__(self) -> None:
        self.settings: Settings
        self.args: argparse.Namespace  # the script's own
        self.mixup: Optional[SUMixMixup] = None
        self.task: Optional[SUMixTask] = None
        self.generator = torch.Generator()  # what the training loader's workers are seeded from
        self.has_masks = False  # once the script makes a loader of images with masks
        self.stand_ins: Dict[Any, Any] = {  # by timm's original
            Mixup: stand_in(Mixup, self._create_mixup, SUMixMixup),
            FastCollateMixup: stand_in(FastCollateMixup, self._create_collate, SUMixMixup),
            create_loader: self._create_loader}
        for kind in TASKS:
            own = SUMixTask if kind is ClassificationTask else kind
            self.stand_ins[kind] = stand_in(kind, partial(self._create_task, kind), own)

    def put_into(self, module: ModuleType) -> None:
        """Put the flags and the replacements into a loaded train script."""
        add_flags(module.parser)
        parse_args = module.parser.parse_args

        def parse_and_resolve(*args, **kwargs):
            parsed = parse_args(*args, **kwargs)
            if parsed.sumix:  # not so where a script asks for its defaults alone
                self.settings, self.args = resolve(parsed, given_keys(sys.argv[1:])), parsed
            return parsed
        module.parser.parse_args = parse_and_resolve
        module.train_one_epoch = partial(self._train_one_epoch, module.train_one_epoch)  # type: ignore[attr-defined]

    @exit_on_user_error()
    def _create_mixup(self, **kwargs) -> SUMixMixup:
        self.mixup = (MaskedMixup if self.args.sumix_masks else SUMixMixup)(**{**kwargs, **self.settings.mixup})
        return self.mixup

    def _create_collate(self, **kwargs) -> FastCollateSUMix:
        mixup, collate = self._create_mixup(**kwargs), FastCollateSUMix(**kwargs)
        collate.mixup = mixup
        return collate

    def _create_loader(self, *args: Any, **kwargs: Any) -> Any:
        try:
            given = inspect.signature(create_loader).bind(*args, **kwargs).arguments
        except TypeError as error:
            refuse_script(f'asks for what is not there: create_loader() {error}')
        if not given.get('is_training') or not self.args.sumix_masks:
            return create_loader(*args, **kwargs)
        with exit_on_user_error('--sumix-masks: '):
            given['dataset'] = with_masks(given['dataset'], self.args.sumix_masks, self.args.data_dir)
            look_at_some(given['dataset'])
        loader = create_loader(**given)
        carry_masks(loader)
        self.has_masks = True
        return loader

    @exit_on_user_error()
    def _create_task(self, kind: Any, verbose: bool = True, **kwargs: Any) -> SUMixTask:
        """Return the task that takes the place of one of timm's; what cannot work is refused before training begins."""
        if self.mixup is None:
            refuse_script('makes its task without Mixup or FastCollateMixup')
        options, threshold = self.settings.options, kwargs.pop('threshold', 0.5)
        task: Any
        if kind in DISTILLATION:
            model = kwargs['student_model']
            task = SUMixDistillationTask(kind(verbose=verbose, **kwargs), self.mixup, options, verbose=verbose)
        else:
            model, criterion = kwargs.pop('model'), kwargs.pop('criterion', None)
            task = SUMixTask(model, self.mixup, criterion, options, verbose=verbose, **kwargs)
        if kind is MULTI_LABEL:
            task.threshold, task.create_evaluator = threshold, MethodType(MULTI_LABEL.create_evaluator, task)
        # an image of the run's own size: a smaller one may leave the model's last map a single place
        size = resolve_data_config(vars(self.args), model=model)['input_size']
        images = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
        task.prepare(images.to(task.device, next(model.parameters()).dtype))
        check_criterion(task.criterion.base, task.mixup.num_classes, task.device)
        check_first_labels(task, task.mixup.num_classes)
        if getattr(self.args, 'no_resume_opt', False):
            _begin_parts_anew(task)
        for name in ('compile', 'load_task_state'):
            setattr(task, name, exit_on_user_error()(getattr(task, name)))
        self.task = task
        return task

    def _train_one_epoch(self, train_one_epoch: Callable, epoch: int, *args: Any, **kwargs: Any) -> Dict[str, Any]:
        if self.task is None:
            refuse_script('made no ClassificationTask, or another task')
        if self.args.sumix_masks and not self.has_masks:
            refuse_script('made its loader without create_loader, which reads the masks')
        arguments, num_classes = [*args, *kwargs.values()], self.task.mixup.num_classes
        if not self.task.mixup.multi_label:  # else folders are no classes
            check_classes(loader_among(arguments), num_classes)
        seed_epoch(epoch, self.args.seed, getattr(self.args, 'rank', 0), arguments, self.generator)
        self.task.after_batch = preview_of(epoch, self.args.sumix_preview, arguments)
        with exit_on_bad_label(num_classes):
            metrics = train_one_epoch(epoch, *args, **kwargs)
        report(epoch, metrics, self.task)
        return metrics


def _begin_parts_anew(task: SUMixTask) -> None:
    """Let the task load a checkpoint that lacks a part of its own, or has another; else its optimizer would not fit."""
    load = task.load_task_state

    def load_what_fits(state: Optional[Dict[str, Any]], strict: bool = True, module: Any = None, ema: bool = False):
        saved, own = set(state or {}), set(task.get_task_state())
        for name in PARTS.keys() & (saved ^ own) if task.verbose and not ema else ():
            logger.info(
                f'SUMix: the checkpoint has no {PARTS[name]}: it starts anew.' if name in own else
                f'SUMix: the {PARTS[name]} of the checkpoint is left out: this run has none.')
        load(state, strict and saved == own, module, ema)

    task.load_task_state = load_what_fits  # type: ignore[method-assign]
