"""A short train script on timm's public API, for where timm's own train.py is not at hand (its wheel has none).

Flags and module-level names are those of timm's train.py, so that `python -m train_patch` treats both alike; each flag
means what it means there. It leaves out what this project's benchmarks do not need, and takes no flag that it would
ignore. For real work, use timm's: https://github.com/huggingface/pytorch-image-models
"""
import argparse
import json
import logging
import os
import time
from collections import OrderedDict
from contextlib import nullcontext

import torch
import torch.nn as nn
import yaml
from timm import utils
from timm.data import FastCollateMixup, Mixup, create_dataset, create_loader, resolve_data_config
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.models import create_model, safe_model_name
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from timm.task import ClassificationTask, load_task_ema_checkpoint, resume_task_checkpoint

_logger = logging.getLogger('train')

# name: default, or a type where the default is None, or a list of one type for several values
OPTIONS = {
    'Data': {
        'data-dir': str, 'dataset': '', 'train-split': 'train', 'val-split': 'validation', 'dataset-download': False,
        'class-map': '', 'workers': 4, 'pin-mem': False, 'no-prefetcher': False,
    },
    'Model': {
        'model': 'resnet50', 'pretrained': False, 'initial-checkpoint': '', 'resume': '', 'no-resume-opt': False,
        'num-classes': int, 'gp': str, 'img-size': int, 'in-chans': int, 'input-size': [int], 'crop-pct': float,
        'mean': [float], 'std': [float], 'interpolation': '', 'batch-size': 128, 'validation-batch-size': int,
        'channels-last': False, 'grad-accum-steps': 1, 'drop': 0., 'drop-path': float, 'sync-bn': False,
    },
    'Device': {'device': 'cuda', 'amp': False, 'amp-dtype': 'float16', 'torchcompile-mode': str},
    'Optimizer': {
        'opt': 'sgd', 'opt-eps': float, 'opt-betas': [float], 'momentum': 0.9, 'weight-decay': 2e-5,
        'clip-grad': float, 'clip-mode': 'norm', 'layer-decay': float,
    },
    'Schedule': {
        'sched': 'cosine', 'sched-on-updates': False, 'lr': float, 'lr-base': 0.1, 'lr-base-size': 256,
        'lr-base-scale': '', 'warmup-lr': 1e-5, 'min-lr': 0., 'epochs': 300, 'start-epoch': int,
        'decay-milestones': [int], 'decay-epochs': 90., 'warmup-epochs': 5, 'warmup-prefix': False,
        'cooldown-epochs': 0, 'decay-rate': 0.1,
    },
    'Augmentation': {
        'no-aug': False, 'train-crop-mode': str, 'scale': [float], 'ratio': [float], 'hflip': 0.5, 'vflip': 0.,
        'color-jitter': 0.4, 'aa': str, 'aug-repeats': 0., 'reprob': 0., 'remode': 'pixel', 'recount': 1,
        'train-interpolation': 'random', 'bce-loss': False, 'bce-sum': False, 'bce-target-thresh': float,
        'mixup': 0., 'cutmix': 0., 'cutmix-minmax': [float], 'mixup-prob': 1., 'mixup-switch-prob': 0.5,
        'mixup-mode': 'batch', 'mixup-off-epoch': 0, 'smoothing': 0.1,
    },
    'EMA': {'model-ema': False, 'model-ema-decay': 0.9998, 'model-ema-warmup': False},
    'Miscellaneous': {
        'seed': 42, 'log-interval': 50, 'recovery-interval': 0, 'checkpoint-hist': 10, 'output': '', 'experiment': '',
        'eval-metric': 'top1',
    },
}
SHORT = {'batch-size': '-b', 'workers': '-j', 'validation-batch-size': '-vb'}


def build_parser() -> argparse.ArgumentParser:
    """Return a parser with a flag for each of OPTIONS."""
    parser = argparse.ArgumentParser(description='Training of a timm model')
    for title, options in OPTIONS.items():
        group = parser.add_argument_group(title)
        for name, value in options.items():
            names = [f'--{name}'] + ([SHORT[name]] if name in SHORT else [])
            if value is False:
                group.add_argument(*names, action='store_true', default=False)
            elif isinstance(value, list):
                group.add_argument(*names, type=value[0], nargs='+', default=None)
            elif isinstance(value, type):
                group.add_argument(*names, type=value, default=None)
            else:
                group.add_argument(*names, type=type(value), default=value, help=f'(default: {value!r})')
    parser.set_defaults(scale=[0.08, 1.], ratio=[3. / 4., 4. / 3.], decay_milestones=[90, 180, 270])
    for name in ('model-kwargs', 'opt-kwargs'):
        parser.add_argument(f'--{name}', nargs='*', default={}, action=utils.ParseKwargs)
    parser.add_argument('--torchcompile', nargs='?', type=str, default=None, const='inductor')
    return parser


config_parser = argparse.ArgumentParser(description='Config file', add_help=False)
config_parser.add_argument('-c', '--config', default='', help='YAML file of default arguments')
parser = build_parser()


def _parse_args():
    config, remaining = config_parser.parse_known_args()
    if config.config:
        with open(config.config) as file:
            values = yaml.safe_load(file)
        known = {action.dest for action in parser._actions}
        if unknown := sorted(set(values) - known):
            parser.error(f'{config.config} has keys that this script does not know: {unknown}')
        parser.set_defaults(**values)
    args = parser.parse_args(remaining)
    return args, yaml.safe_dump(vars(args), default_flow_style=False)


def create_loaders(args, data_config, device):
    """Return (train loader, validation loader, mixup_fn); mixup_fn is None where the loader's collate mixes."""
    mixes = args.mixup > 0 or args.cutmix > 0 or args.cutmix_minmax is not None
    mixup_fn, collate_fn = None, None
    if mixes:
        mixup_args = dict(
            mixup_alpha=args.mixup, cutmix_alpha=args.cutmix, cutmix_minmax=args.cutmix_minmax, prob=args.mixup_prob,
            switch_prob=args.mixup_switch_prob, mode=args.mixup_mode, label_smoothing=args.smoothing,
            num_classes=args.num_classes,
        )
        if args.prefetcher:
            collate_fn = FastCollateMixup(**mixup_args)
        else:
            mixup_fn = Mixup(**mixup_args)
    common = dict(
        input_size=data_config['input_size'], mean=data_config['mean'], std=data_config['std'],
        num_workers=args.workers, distributed=args.distributed, pin_memory=args.pin_mem, device=device,
        use_prefetcher=args.prefetcher, persistent_workers=args.workers > 0,
    )
    train_loader = create_loader(
        _create_dataset(args, args.train_split, True), batch_size=args.batch_size, is_training=True, no_aug=args.no_aug,
        re_prob=args.reprob, re_mode=args.remode, re_count=args.recount, train_crop_mode=args.train_crop_mode,
        scale=args.scale, ratio=args.ratio, hflip=args.hflip, vflip=args.vflip, color_jitter=args.color_jitter,
        auto_augment=args.aa, num_aug_repeats=args.aug_repeats,
        interpolation=data_config['interpolation'] if args.no_aug else args.train_interpolation, collate_fn=collate_fn,
        **common,
    )
    validation_loader = create_loader(
        _create_dataset(args, args.val_split, False), batch_size=args.validation_batch_size or args.batch_size,
        interpolation=data_config['interpolation'], crop_pct=data_config['crop_pct'], **common,
    )
    return train_loader, validation_loader, mixup_fn


def _create_dataset(args, split, is_training):
    return create_dataset(
        args.dataset, root=args.data_dir, split=split, is_training=is_training, class_map=args.class_map,
        download=args.dataset_download, batch_size=args.batch_size, seed=args.seed,
    )


def create_train_loss(args):
    """Return the criterion of a training run; smoothing is the mixing's matter where images are mixed."""
    if args.bce_loss:
        return BinaryCrossEntropy(args.smoothing, args.bce_target_thresh, sum_classes=args.bce_sum)
    if args.mixup > 0 or args.cutmix > 0 or args.cutmix_minmax is not None:
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(args.smoothing) if args.smoothing else nn.CrossEntropyLoss()


def set_lr(args):
    """Derive --lr from --lr-base and the global batch size, unless it was given."""
    if args.lr:
        return
    ratio = args.batch_size * args.world_size * args.grad_accum_steps / args.lr_base_size
    adaptive = any(name in args.opt.lower() for name in ('ada', 'lamb'))
    scale = args.lr_base_scale or ('sqrt' if adaptive else 'linear')
    args.lr = args.lr_base * (ratio ** 0.5 if scale == 'sqrt' else ratio)


def main():
    """Train, validate after each epoch, and keep the best checkpoints."""
    utils.setup_default_logging()
    args, args_text = _parse_args()
    args.prefetcher = not args.no_prefetcher
    device = utils.init_distributed_device(args)
    utils.random_seed(args.seed, args.rank)
    primary = utils.is_primary(args)

    model = create_model(
        args.model, pretrained=args.pretrained,
        in_chans=args.in_chans or (args.input_size[0] if args.input_size else 3), num_classes=args.num_classes,
        drop_rate=args.drop, drop_path_rate=args.drop_path, global_pool=args.gp,
        checkpoint_path=args.initial_checkpoint, **args.model_kwargs,
    )
    args.num_classes = args.num_classes or model.num_classes
    data_config = resolve_data_config(vars(args), model=model, verbose=primary)
    model.to(device, memory_format=torch.channels_last if args.channels_last else torch.contiguous_format)
    if args.distributed and args.sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if primary:
        count = sum(parameter.numel() for parameter in model.parameters())
        _logger.info(f'{safe_model_name(args.model)}, {count} parameters, {device}')

    autocast, loss_scaler = nullcontext, None
    if args.amp:
        amp_dtype = getattr(torch, args.amp_dtype)

        def autocast():
            return torch.autocast(device.type, amp_dtype)
        loss_scaler = utils.NativeScaler(device.type) if (device.type, amp_dtype) == ('cuda', torch.float16) else None

    loader_train, loader_eval, mixup_fn = create_loaders(args, data_config, device)
    set_lr(args)
    task = ClassificationTask(
        model=model, criterion=create_train_loss(args).to(device), device=device, verbose=primary,
    )
    optimizer = create_optimizer_v2(task.get_trainable_module(), **optimizer_kwargs(cfg=args), **args.opt_kwargs)
    resume_epoch = None
    if args.resume:
        resume_epoch = resume_task_checkpoint(
            task, args.resume, optimizer=None if args.no_resume_opt else optimizer,
            loss_scaler=None if args.no_resume_opt else loss_scaler, log_info=primary,
        )
    if args.model_ema:
        task.setup_ema(decay=args.model_ema_decay, use_warmup=args.model_ema_warmup)
        if args.resume:
            load_task_ema_checkpoint(task, args.resume)
    if args.torchcompile:
        task.compile(backend=args.torchcompile, mode=args.torchcompile_mode)
    if args.distributed:
        task.prepare_distributed(device_ids=None if device.type == 'cpu' else [device])

    saver, output_dir = None, None
    if primary:
        name = args.experiment or f'{time.strftime("%Y%m%d-%H%M%S")}-{safe_model_name(args.model)}'
        output_dir = utils.get_outdir(args.output or './output/train', name)
        saver = utils.CheckpointSaver(
            model=task.get_trainable_module(), optimizer=optimizer, args=args, amp_scaler=loss_scaler,
            checkpoint_dir=output_dir, recovery_dir=output_dir, decreasing=args.eval_metric == 'loss',
            max_history=args.checkpoint_hist, task=task,
        )
        with open(os.path.join(output_dir, 'args.yaml'), 'w') as file:
            file.write(args_text)

    updates = -(-len(loader_train) // args.grad_accum_steps)
    lr_scheduler, num_epochs = create_scheduler_v2(optimizer, **scheduler_kwargs(args), updates_per_epoch=updates)
    start_epoch = args.start_epoch if args.start_epoch is not None else resume_epoch or 0
    if start_epoch:
        lr_scheduler.step_update(start_epoch * updates) if args.sched_on_updates else lr_scheduler.step(start_epoch)

    results = []
    for epoch in range(start_epoch, num_epochs):
        if hasattr(loader_train.sampler, 'set_epoch'):
            loader_train.sampler.set_epoch(epoch)
        train_metrics = train_one_epoch(
            epoch, task.get_trainable_module(), loader_train, optimizer, args, task=task, device=device,
            lr_scheduler=lr_scheduler, saver=saver, autocast=autocast, loss_scaler=loss_scaler, mixup_fn=mixup_fn,
        )
        if args.distributed:
            utils.distribute_bn(task.get_trainable_module(), args.world_size, True)
        eval_metrics = validate(task.get_eval_model(ema=task.has_ema()), loader_eval, args, device, autocast)
        if primary:
            utils.update_summary(
                epoch, train_metrics, eval_metrics, filename=os.path.join(output_dir, 'summary.csv'),
                lr=optimizer.param_groups[0]['lr'], write_header=not results,
            )
            saver.save_checkpoint(epoch, metric=eval_metrics[args.eval_metric])
        lr_scheduler.step(epoch + 1, eval_metrics[args.eval_metric])
        results.append({'epoch': epoch, 'train': train_metrics, 'validation': eval_metrics})
    if args.distributed:
        torch.distributed.destroy_process_group()
    if primary:
        print(f'--result\n{json.dumps(results[-10:], indent=4)}')


def train_one_epoch(
        epoch, model, loader, optimizer, args, task=None, device=None, lr_scheduler=None, saver=None,
        autocast=nullcontext, loss_scaler=None, mixup_fn=None,
):
    """Train for one epoch and return its mean loss."""
    if args.mixup_off_epoch and epoch >= args.mixup_off_epoch:
        if args.prefetcher:
            loader.mixup_enabled = False
        elif mixup_fn is not None:
            mixup_fn.mixup_enabled = False
    model.train()
    losses, start, optimizer_steps = utils.AverageMeter(), time.time(), 0
    updates = -(-len(loader) // args.grad_accum_steps)
    for i, (input, target) in enumerate(loader):
        if not args.prefetcher:
            input, target = input.to(device), target.to(device)
            if mixup_fn is not None:
                input, target = mixup_fn(input, target)
        if args.channels_last:
            input = input.contiguous(memory_format=torch.channels_last)
        first_of_update = i - i % args.grad_accum_steps
        accum_steps = min(args.grad_accum_steps, len(loader) - first_of_update)
        need_update = i == first_of_update + accum_steps - 1
        with nullcontext() if need_update else task.no_sync():
            with autocast():
                loss = task(input, target)['loss'] / accum_steps
            clip = task.get_clip_parameters(exclude_head='agc' in args.clip_mode) if args.clip_grad else None
            if loss_scaler is not None:
                loss_scaler(
                    loss, optimizer, args.clip_grad, args.clip_mode, parameters=clip, need_update=need_update)
            else:
                loss.backward()
                if need_update:
                    if clip is not None:
                        utils.dispatch_clip_grad(clip, value=args.clip_grad, mode=args.clip_mode)
                    optimizer.step()
        losses.update(loss.item() * accum_steps, len(input))
        if not need_update:
            continue
        optimizer.zero_grad()
        step = epoch * updates + optimizer_steps + 1
        task.update_ema(step=step)
        lr_scheduler.step_update(num_updates=step, metric=losses.avg)
        if utils.is_primary(args) and (optimizer_steps % args.log_interval == 0 or optimizer_steps == updates - 1):
            _logger.info(
                f'Train: {epoch} [{optimizer_steps:>4d}/{updates} ({100. * (optimizer_steps + 1) / updates:>3.0f}%)]  '
                f'Loss: {losses.val:#.3g} ({losses.avg:#.3g})  '
                f'Time: {(time.time() - start) / (optimizer_steps + 1):.3f}s  '
                f'LR: {optimizer.param_groups[0]["lr"]:.3e}')
        if saver is not None and args.recovery_interval and (optimizer_steps + 1) % args.recovery_interval == 0:
            saver.save_recovery(epoch, batch_idx=optimizer_steps)
        optimizer_steps += 1
    return OrderedDict(loss=_mean_over_processes(losses.avg, args, device))


def _mean_over_processes(value, args, device):
    if not args.distributed:
        return value
    return utils.reduce_tensor(torch.tensor([value], device=device, dtype=torch.float32), args.world_size).item()


@torch.inference_mode()
def validate(model, loader, args, device, autocast=nullcontext):
    """Return loss, top1 and top5 on the validation split."""
    model.eval()
    meters = OrderedDict((name, utils.AverageMeter()) for name in ('loss', 'top1', 'top5'))
    for input, target in loader:
        input, target = input.to(device), target.to(device)
        with autocast():
            output = model(input)
        values = (nn.functional.cross_entropy(output.float(), target), *utils.accuracy(output, target, topk=(1, 5)))
        for meter, value in zip(meters.values(), values):
            meter.update(_mean_over_processes(value.item(), args, device), len(input))
    metrics = OrderedDict((name, meter.avg) for name, meter in meters.items())
    if utils.is_primary(args):
        _logger.info('Test: ' + '  '.join(f'{name} {value:.3f}' for name, value in metrics.items()))
    return metrics


if __name__ == '__main__':
    main()
