"""A stand-in for the train.py of timm 1.0.31: benchmarks/train.py with the losses, tasks and --resume auto of that one.

That script was not at hand: it is in no wheel or sdist of timm. What is here follows timm's own tests of it (the flags,
in which order values are resolved, how --resume auto goes on) and timm's task and loss packages; no line is timm's.
"""
import os
import runpy
from functools import partial
from pathlib import Path

import torch
from timm import task as tasks
from timm.data import FastCollateMixup, Mixup, create_dataset
from timm.loss import LOSS_TYPES
from timm.task import ClassificationTask, MultiLabelClassificationTask

BASE = runpy.run_path(str(Path(__file__).parent.parent / 'benchmarks' / 'train.py'), run_name='base')
OWN = {}  # what a run puts in the places of the base's names, and its arguments and task

config_parser, parser, train_one_epoch = (BASE[name] for name in ('config_parser', 'parser', 'train_one_epoch'))
parser.add_argument('--task', choices=('classification', 'multilabel'), default='classification')
parser.add_argument('--loss', choices=LOSS_TYPES)
for _name, _kind, _default in (
        ('loss-pos-weight', float, None), ('poly-epsilon', float, 2.), ('kd-model-name', str, None),
        ('kd-distill-type', str, 'logit')):
    parser.add_argument(f'--{_name}', type=_kind, default=_default)
parser.set_defaults(smoothing=None)


def _parse_args():
    args, args_text = BASE['_parse_args']()  # the text is as given: it can be run again
    if args.bce_loss:
        args.loss = 'bce'
    if args.smoothing is None:
        args.smoothing = 0. if args.task == 'multilabel' else 0.1
    if args.resume == 'auto':
        last = os.path.join(args.output, args.experiment, 'last.pth.tar')
        args.resume = last if os.path.exists(last) else ''
    OWN['args'] = args
    return args, args_text


def _loss_kwargs(args):
    return dict(
        loss_type=args.loss, smoothing=args.smoothing, poly_epsilon=args.poly_epsilon,
        soft_targets=bool(args.mixup or args.cutmix or args.cutmix_minmax), bce_target_thresh=args.bce_target_thresh,
        pos_weight=args.loss_pos_weight)


def _create_mixup(kind, **kwargs):
    return kind(**kwargs, multi_label=OWN['args'].task == 'multilabel')


def _create_dataset(*args, **kwargs):
    """Return the folders' images; those of several classes have their folder's and the one before it."""
    count = OWN['args'].num_classes
    several = OWN['args'].task == 'multilabel' and (  # of a single one its label is no class out of range
        lambda label: torch.tensor([label % 2.]) if count == 1 else torch.eye(count)[[label, label - 1]].amax(0))
    return create_dataset(*args, **kwargs, target_transform=several or None)


def _create_task(model, criterion, **kwargs):
    args, kwargs = OWN['args'], {**kwargs, 'criterion_kwargs': _loss_kwargs(OWN['args'])}
    if args.kd_model_name:
        kind = getattr(tasks, f'{args.kd_distill_type.title()}DistillationTask')
        OWN['task'] = kind(student_model=model, teacher_model=args.kd_model_name, **kwargs)
    else:
        kind = MultiLabelClassificationTask if args.task == 'multilabel' else ClassificationTask
        OWN['task'] = kind(model=model, **kwargs)
    return OWN['task']


@torch.inference_mode()
def _validate(model, loader, *_):
    model.eval()
    evaluator = OWN['task'].create_evaluator()
    for input, target in loader:
        evaluator.update(model(input), target)
    metrics = evaluator.compute()
    return {**metrics, 'top1': metrics[evaluator.default_metric]}  # by which the base keeps checkpoints


def main():
    """Run the base's main with this script's parts in it."""
    BASE['main'].__globals__.update(
        _parse_args=_parse_args, train_one_epoch=train_one_epoch, create_dataset=_create_dataset, validate=_validate,
        ClassificationTask=_create_task, Mixup=partial(_create_mixup, Mixup),
        FastCollateMixup=partial(_create_mixup, FastCollateMixup))
    BASE['main']()


if __name__ == '__main__':
    main()
