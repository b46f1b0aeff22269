"""A stand-in for the train.py of timm 1.0.31, which was not at hand: it is in no wheel or sdist of timm.

Written for these tests from what timm's own tests of that script show (the flags, in which order values are resolved,
what is refused, how --resume auto goes on) and from timm's task, loss and utils packages. No line of it is timm's, and
what those tests do not show may differ there. It trains one small model on folders of pictures, and nothing else.
"""
import argparse
import logging
import os
from collections import OrderedDict

import torch
import yaml
from timm import task as tasks
from timm import utils
from timm.data import FastCollateMixup, Mixup, create_dataset, create_loader, resolve_data_config
from timm.loss import LOSS_TYPES, create_classification_loss
from timm.models import create_model
from timm.optim import create_optimizer_v2
from timm.task import ClassificationTask, MultiLabelClassificationTask, resume_task_checkpoint

_logger = logging.getLogger('train')

# flag: its default, or its type where the default is None
FLAGS = {
    'data-dir': str, 'dataset': '', 'task': 'classification', 'model': 'resnet50', 'num-classes': int, 'seed': 42,
    'batch-size': 128, 'lr': float, 'warmup-epochs': 5, 'epochs': 300, 'stop-epoch': int, 'device': 'cuda',
    'workers': 4, 'output': '', 'experiment': '', 'resume': '', 'no-resume-opt': False, 'log-interval': 50,
    'no-prefetcher': False, 'mixup': 0., 'cutmix': 0., 'mixup-prob': 1., 'mixup-switch-prob': 0.5,
    'mixup-mode': 'batch', 'smoothing': float, 'reprob': 0., 'aug-splits': 0, 'loss': str, 'loss-pos-weight': str,
    'kd-model-name': str, 'kd-distill-type': 'logit',
    'bce-loss': False, 'bce-pos-weight': float, 'bce-target-thresh': float, 'jsd-loss': False, 'poly-epsilon': 2.,
}

config_parser = argparse.ArgumentParser(add_help=False)
config_parser.add_argument('-c', '--config', default='')
parser = argparse.ArgumentParser(description='Stand-in for the train.py of timm 1.0.31')
for _name, _value in FLAGS.items():
    if _value is False:
        parser.add_argument(f'--{_name}', action='store_true')
    else:
        _kind = _value if isinstance(_value, type) else type(_value)
        _choices = {'loss': LOSS_TYPES, 'task': ('classification', 'multilabel')}.get(_name)
        parser.add_argument(
            f'--{_name}', type=_kind, choices=_choices, default=None if isinstance(_value, type) else _value)
parser.add_argument('--cutmix-minmax', type=float, nargs='+')
parser.add_argument('--input-size', type=int, nargs=3)
parser.add_argument('--model-kwargs', nargs='*', default={}, action=utils.ParseKwargs)


def _parse_args():
    config, remaining = config_parser.parse_known_args()
    if config.config:
        with open(config.config) as file:
            parser.set_defaults(**_checked(yaml.safe_load(file)))
    args = parser.parse_args(remaining)
    args_text = yaml.safe_dump(vars(args), default_flow_style=False)  # as given: it can be run again
    _resolve(args)
    return args, args_text


def _checked(values):
    """Return a config file's values as the flags' types; the parser's error where that cannot be."""
    actions = {action.dest: action for action in parser._actions}
    for key, value in values.items():
        if key not in actions:
            _logger.warning(f'{key} is no argument of this script')
        elif actions[key].nargs in ('+', '*', 3) and not isinstance(value, (list, dict, type(None))):
            parser.error(f'{key} must be a list, got {value!r}')
        elif actions[key].type in (int, float) and isinstance(value, str):
            values[key] = actions[key].type(value)
    return values


def _resolve(args):
    """Complete the arguments that depend on each other."""
    for name in ('bce', 'jsd'):
        if getattr(args, f'{name}_loss'):
            if args.loss not in (None, name):
                parser.error(f'--{name}-loss and --loss {args.loss} exclude each other')
            args.loss = name
    if args.bce_pos_weight is not None:
        args.loss_pos_weight = str(args.bce_pos_weight)
    if args.smoothing is None:
        args.smoothing = 0. if args.task == 'multilabel' else 0.1
    if args.resume == 'auto' and not args.experiment:
        parser.error('--resume auto needs --experiment')
    try:
        create_classification_loss(multi_label=args.task == 'multilabel', **_loss_kwargs(args))
    except ValueError as error:
        parser.error(str(error))


def _mixes(args):
    return args.mixup > 0 or args.cutmix > 0 or args.cutmix_minmax is not None


def _loss_kwargs(args):
    return dict(
        loss_type=args.loss, smoothing=args.smoothing, soft_targets=_mixes(args), jsd_splits=args.aug_splits,
        pos_weight=args.loss_pos_weight and float(args.loss_pos_weight), bce_target_thresh=args.bce_target_thresh,
        poly_epsilon=args.poly_epsilon)


def _create_loaders(args, data_config, device):
    mixup_fn = None
    if _mixes(args):
        mixup_fn = (Mixup if args.no_prefetcher else FastCollateMixup)(
            mixup_alpha=args.mixup, cutmix_alpha=args.cutmix, cutmix_minmax=args.cutmix_minmax, prob=args.mixup_prob,
            switch_prob=args.mixup_switch_prob, mode=args.mixup_mode, label_smoothing=args.smoothing,
            num_classes=args.num_classes, multi_label=args.task == 'multilabel')
    loaders = [
        create_loader(
            create_dataset(args.dataset, root=args.data_dir, split=split, is_training=training),
            input_size=data_config['input_size'], batch_size=args.batch_size, is_training=training, no_aug=True,
            re_prob=args.reprob, num_workers=args.workers, device=device, use_prefetcher=not args.no_prefetcher,
            collate_fn=mixup_fn if training and not args.no_prefetcher else None)
        for split, training in (('train', True), ('validation', False))]
    return (*loaders, mixup_fn if args.no_prefetcher else None)


def main():
    """Train and validate, and go on from the experiment's own last checkpoint with --resume auto."""
    utils.setup_default_logging()
    args, args_text = _parse_args()
    args.prefetcher = not args.no_prefetcher
    device = utils.init_distributed_device(args)
    utils.random_seed(args.seed, args.rank)
    output_dir = utils.get_outdir(args.output, args.experiment)
    in_place = args.resume == 'auto'
    if in_place:
        last = os.path.join(output_dir, 'last.pth.tar')
        args.resume = last if os.path.exists(last) else ''
    model = create_model(args.model, num_classes=args.num_classes, **args.model_kwargs).to(device)
    data_config = resolve_data_config(vars(args), model=model)
    loader_train, loader_eval, mixup_fn = _create_loaders(args, data_config, device)
    create_task = MultiLabelClassificationTask if args.task == 'multilabel' else ClassificationTask
    if args.kd_model_name:
        task = getattr(tasks, f'{args.kd_distill_type.title()}DistillationTask')(
            student_model=model, teacher_model=args.kd_model_name, criterion_kwargs=_loss_kwargs(args), device=device)
    else:
        task = create_task(model, criterion_kwargs=_loss_kwargs(args), device=device, verbose=True)
    optimizer = create_optimizer_v2(task.get_trainable_module(), opt='sgd', lr=args.lr)
    start_epoch = 0
    if args.resume:
        start_epoch = resume_task_checkpoint(task, args.resume, None if args.no_resume_opt else optimizer) or 0
    saver = utils.CheckpointSaver(
        model, optimizer, args=args, checkpoint_dir=output_dir, recovery_dir=output_dir, task=task)
    if in_place and args.resume:
        saver.load_state_dict_from_checkpoint(args.resume)
    summary = os.path.join(output_dir, 'summary.csv')
    utils.trim_summary(summary, start_epoch)
    with open(os.path.join(output_dir, 'args.yaml'), 'w') as file:
        file.write(args_text)
    for epoch in range(start_epoch, args.stop_epoch or args.epochs):
        train_metrics = train_one_epoch(
            epoch, model, loader_train, optimizer, args, task=task, device=device, saver=saver, mixup_fn=mixup_fn)
        evaluator = task.create_evaluator()
        eval_metrics = validate(task.get_eval_model(), loader_eval, device, evaluator)
        utils.update_summary(epoch, train_metrics, eval_metrics, summary, lr=args.lr)
        saver.save_checkpoint(epoch, metric=eval_metrics[evaluator.default_metric])


def train_one_epoch(epoch, model, loader, optimizer, args, task=None, device=None, saver=None, mixup_fn=None):
    """Train for one epoch and return its mean loss."""
    model.train()
    losses = utils.AverageMeter()
    for input, target in loader:
        input, target = input.to(device), target.to(device)
        if mixup_fn is not None:
            input, target = mixup_fn(input, target)
        optimizer.zero_grad()
        loss = task(input, target)['loss']
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), len(input))
    _logger.info(f'Train: {epoch}  Loss: {losses.avg:#.3g}')
    return OrderedDict(loss=losses.avg)


@torch.inference_mode()
def validate(model, loader, device, evaluator):
    """Return what the task's evaluator says of the validation split."""
    model.eval()
    for input, target in loader:
        evaluator.update(model(input.to(device)), target.to(device))
    return evaluator.compute()


if __name__ == '__main__':
    main()
