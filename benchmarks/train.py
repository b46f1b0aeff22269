"""A short train script on timm's public API, for where timm's own train.py is not at hand (its wheel has none).

Flags and module-level names are those of timm's train.py, so that `python -m train_patch` treats both alike; each flag
means what it means there, and what has no flag is as by timm's defaults. It has the flags that this project's recipes
and tests set. For real work, use timm's: https://github.com/huggingface/pytorch-image-models
"""
import argparse
import logging
import os
import time
from contextlib import nullcontext
from functools import partial

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

# flag: default, or a type where the default is None, or a list of one type for several values
OPTIONS = {
    'data-dir': str, 'dataset': '', 'val-split': 'validation', 'workers': 4, 'no-prefetcher': False,
    'model': 'resnet50', 'pretrained': False, 'resume': '', 'no-resume-opt': False, 'num-classes': int, 'gp': str,
    'img-size': int, 'in-chans': int, 'input-size': [int], 'crop-pct': float, 'mean': [float], 'std': [float],
    'interpolation': '', 'batch-size': 128, 'channels-last': False, 'grad-accum-steps': 1, 'drop': 0.,
    'drop-path': float, 'sync-bn': False, 'device': 'cuda', 'amp': False, 'amp-dtype': 'float16',
    'opt': 'sgd', 'momentum': 0.9, 'weight-decay': 2e-5, 'clip-grad': float, 'clip-mode': 'norm', 'layer-decay': float,
    'sched': 'cosine', 'lr': float, 'warmup-lr': 1e-5, 'min-lr': 0., 'epochs': 300, 'warmup-epochs': 5,
    'no-aug': False, 'train-crop-mode': str, 'scale': [float], 'ratio': [float], 'color-jitter': 0.4, 'aa': str,
    'aug-repeats': 0., 'reprob': 0., 'remode': 'pixel', 'train-interpolation': 'random', 'bce-loss': False,
    'bce-target-thresh': float, 'mixup': 0., 'cutmix': 0., 'cutmix-minmax': [float], 'mixup-prob': 1.,
    'mixup-switch-prob': 0.5, 'mixup-mode': 'batch', 'mixup-off-epoch': 0, 'smoothing': 0.1,
    'model-ema': False, 'model-ema-decay': 0.9998, 'model-ema-warmup': False,
    'seed': 42, 'log-interval': 50, 'checkpoint-hist': 10, 'output': '', 'experiment': '',
}
config_parser = argparse.ArgumentParser(description='Config file', add_help=False)
config_parser.add_argument('-c', '--config', default='', help='YAML file of default arguments')
parser = argparse.ArgumentParser(description='Training of a timm model')
for name, value in OPTIONS.items():
    if value is False:
        parser.add_argument(f'--{name}', action='store_true')
    elif isinstance(value, list):
        parser.add_argument(f'--{name}', type=value[0], nargs='+')
    elif isinstance(value, type):
        parser.add_argument(f'--{name}', type=value)
    else:
        parser.add_argument(f'--{name}', type=type(value), default=value, help=f'(default: {value!r})')
for name in ('model-kwargs', 'opt-kwargs'):
    parser.add_argument(f'--{name}', nargs='*', default={}, action=utils.ParseKwargs)
parser.add_argument('--torchcompile', nargs='?', const='inductor')


def _parse_args():
    config, remaining = config_parser.parse_known_args()
    if config.config:
        with open(config.config) as file:
            values = yaml.safe_load(file)
        if unknown := sorted(set(values) - {action.dest for action in parser._actions}):
            parser.error(f'{config.config} has keys that this script does not know: {unknown}')
        parser.set_defaults(**values)
    args = parser.parse_args(remaining)
    return args, yaml.safe_dump(vars(args), default_flow_style=False)


def create_loaders(args, data_config, device):
    """Return (train loader, validation loader, mixup_fn); mixup_fn is None where the loader's collate mixes."""
    mixup = None
    if args.mixes:
        mixup = (FastCollateMixup if args.prefetcher else Mixup)(
            mixup_alpha=args.mixup, cutmix_alpha=args.cutmix, cutmix_minmax=args.cutmix_minmax, prob=args.mixup_prob,
            switch_prob=args.mixup_switch_prob, mode=args.mixup_mode, label_smoothing=args.smoothing,
            num_classes=args.num_classes)

    def create(split, is_training, **kwargs):
        dataset = create_dataset(
            args.dataset, root=args.data_dir, split=split, is_training=is_training, batch_size=args.batch_size,
            seed=args.seed, input_img_mode='RGB' if data_config['input_size'][0] == 3 else 'L')
        return create_loader(
            dataset, input_size=data_config['input_size'], batch_size=args.batch_size, is_training=is_training,
            mean=data_config['mean'], std=data_config['std'], num_workers=args.workers, distributed=args.distributed,
            device=device, use_prefetcher=args.prefetcher, persistent_workers=args.workers > 0, **kwargs)

    interpolation = data_config['interpolation']
    train_loader = create(
        'train', True, no_aug=args.no_aug, re_prob=args.reprob, re_mode=args.remode, scale=args.scale, ratio=args.ratio,
        train_crop_mode=args.train_crop_mode, color_jitter=args.color_jitter, auto_augment=args.aa,
        num_aug_repeats=args.aug_repeats, interpolation=interpolation if args.no_aug else args.train_interpolation,
        collate_fn=mixup if args.prefetcher else None)
    validation_loader = create(args.val_split, False, interpolation=interpolation, crop_pct=data_config['crop_pct'])
    return train_loader, validation_loader, None if args.prefetcher else mixup


def create_train_loss(args):
    """Return the criterion of a training run; smoothing is the mixing's matter where images are mixed."""
    if args.bce_loss:
        return BinaryCrossEntropy(args.smoothing, args.bce_target_thresh)
    if args.mixes:
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(args.smoothing) if args.smoothing else nn.CrossEntropyLoss()


def main():
    """Train, validate after each epoch, and keep the best checkpoints."""
    utils.setup_default_logging()
    args, args_text = _parse_args()
    args.prefetcher, args.mixes = not args.no_prefetcher, bool(args.mixup or args.cutmix or args.cutmix_minmax)
    device = utils.init_distributed_device(args)
    utils.random_seed(args.seed, args.rank)
    primary = utils.is_primary(args)
    if args.lr is None:  # by timm's --lr-base, 0.1 for 256 images
        ratio = args.batch_size * args.world_size * args.grad_accum_steps / 256
        args.lr = 0.1 * (ratio ** 0.5 if any(name in args.opt.lower() for name in ('ada', 'lamb')) else ratio)

    model = create_model(
        args.model, pretrained=args.pretrained,
        in_chans=args.in_chans or (args.input_size[0] if args.input_size else 3), num_classes=args.num_classes,
        drop_rate=args.drop, drop_path_rate=args.drop_path, global_pool=args.gp, **args.model_kwargs)
    args.num_classes = args.num_classes or model.num_classes
    data_config = resolve_data_config(vars(args), model=model, verbose=primary)
    model.to(device, memory_format=torch.channels_last if args.channels_last else torch.contiguous_format)
    if args.distributed and args.sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)

    autocast, loss_scaler = nullcontext, None
    if args.amp:
        autocast = partial(torch.autocast, device.type, getattr(torch, args.amp_dtype))
        if (device.type, args.amp_dtype) == ('cuda', 'float16'):
            loss_scaler = utils.NativeScaler(device.type)

    loader_train, loader_eval, mixup_fn = create_loaders(args, data_config, device)
    task = ClassificationTask(model=model, criterion=create_train_loss(args).to(device), device=device, verbose=primary)
    optimizer = create_optimizer_v2(task.get_trainable_module(), **optimizer_kwargs(cfg=args), **args.opt_kwargs)
    start_epoch = 0
    if args.resume:
        states = {} if args.no_resume_opt else {'optimizer': optimizer, 'loss_scaler': loss_scaler}
        start_epoch = resume_task_checkpoint(task, args.resume, **states, log_info=primary) or 0
    if args.model_ema:
        task.setup_ema(decay=args.model_ema_decay, use_warmup=args.model_ema_warmup)
        if args.resume:
            load_task_ema_checkpoint(task, args.resume)
    if args.torchcompile:
        task.compile(backend=args.torchcompile)
    if args.distributed:
        task.prepare_distributed(device_ids=None if device.type == 'cpu' else [device])

    saver, output_dir = None, None
    if primary:
        name = args.experiment or f'{time.strftime("%Y%m%d-%H%M%S")}-{safe_model_name(args.model)}'
        output_dir = utils.get_outdir(args.output or './output/train', name)
        saver = utils.CheckpointSaver(
            model=task.get_trainable_module(), optimizer=optimizer, args=args, amp_scaler=loss_scaler,
            checkpoint_dir=output_dir, recovery_dir=output_dir, max_history=args.checkpoint_hist, task=task)
        with open(os.path.join(output_dir, 'args.yaml'), 'w') as file:
            file.write(args_text)

    updates = -(-len(loader_train) // args.grad_accum_steps)
    lr_scheduler, num_epochs = create_scheduler_v2(optimizer, **scheduler_kwargs(args), updates_per_epoch=updates)
    if start_epoch:
        lr_scheduler.step(start_epoch)

    for epoch in range(start_epoch, num_epochs):
        if args.distributed:
            loader_train.sampler.set_epoch(epoch)
        train_metrics = train_one_epoch(
            epoch, task.get_trainable_module(), loader_train, optimizer, args, task=task, device=device,
            lr_scheduler=lr_scheduler, saver=saver, autocast=autocast, loss_scaler=loss_scaler, mixup_fn=mixup_fn)
        if args.distributed:
            utils.distribute_bn(task.get_trainable_module(), args.world_size, True)
        eval_metrics = validate(task.get_eval_model(ema=task.has_ema()), loader_eval, args, device, autocast)
        if primary:
            utils.update_summary(
                epoch, train_metrics, eval_metrics, filename=os.path.join(output_dir, 'summary.csv'),
                lr=optimizer.param_groups[0]['lr'], write_header=epoch == start_epoch)
            saver.save_checkpoint(epoch, metric=eval_metrics['top1'])
        lr_scheduler.step(epoch + 1, eval_metrics['top1'])
    if args.distributed:
        torch.distributed.destroy_process_group()


def train_one_epoch(
        epoch, model, loader, optimizer, args, task=None, device=None, lr_scheduler=None, saver=None,
        autocast=nullcontext, loss_scaler=None, mixup_fn=None,
):
    """Train for one epoch and return its mean loss."""
    if args.mixup_off_epoch and epoch >= args.mixup_off_epoch:
        (mixup_fn or loader).mixup_enabled = False  # without mixup_fn the loader's collate mixes
    model.train()
    losses, done = utils.AverageMeter(), 0
    updates = -(-len(loader) // args.grad_accum_steps)
    for i, (input, target) in enumerate(loader):
        if not args.prefetcher:
            input, target = input.to(device), target.to(device)
            if mixup_fn is not None:
                input, target = mixup_fn(input, target)
        if args.channels_last:
            input = input.contiguous(memory_format=torch.channels_last)
        accum_steps = min(args.grad_accum_steps, len(loader) - i + i % args.grad_accum_steps)
        need_update = i % args.grad_accum_steps == accum_steps - 1
        with nullcontext() if need_update else task.no_sync():
            with autocast():
                loss = task(input, target)['loss'] / accum_steps
            clip = task.get_clip_parameters(exclude_head='agc' in args.clip_mode) if args.clip_grad else None
            if loss_scaler is not None:
                loss_scaler(loss, optimizer, args.clip_grad, args.clip_mode, parameters=clip, need_update=need_update)
            else:
                loss.backward()
                if need_update and clip is not None:
                    utils.dispatch_clip_grad(clip, value=args.clip_grad, mode=args.clip_mode)
                if need_update:
                    optimizer.step()
        losses.update(loss.item() * accum_steps, len(input))
        if not need_update:
            continue
        optimizer.zero_grad()
        done += 1
        task.update_ema(step=epoch * updates + done)
        lr_scheduler.step_update(num_updates=epoch * updates + done, metric=losses.avg)
        if utils.is_primary(args) and ((done - 1) % args.log_interval == 0 or done == updates):
            _logger.info(
                f'Train: {epoch} [{done - 1:>4d}/{updates}]  Loss: {losses.val:#.3g} ({losses.avg:#.3g})  '
                f'LR: {optimizer.param_groups[0]["lr"]:.3e}')
    return {'loss': _mean_over_processes(losses.avg, args, device)}


def _mean_over_processes(value, args, device):
    if not args.distributed:
        return value
    return utils.reduce_tensor(torch.tensor([value], device=device, dtype=torch.float32), args.world_size).item()


@torch.inference_mode()
def validate(model, loader, args, device, autocast=nullcontext):
    """Return loss and top1 on the validation split."""
    model.eval()
    loss, top1 = utils.AverageMeter(), utils.AverageMeter()
    for input, target in loader:
        input, target = input.to(device), target.to(device)
        with autocast():
            output = model(input)
        for meter, value in ((loss, nn.functional.cross_entropy(output.float(), target)),
                             (top1, *utils.accuracy(output, target))):
            meter.update(_mean_over_processes(value.item(), args, device), len(input))
    if utils.is_primary(args):
        _logger.info(f'Test: loss {loss.avg:.3f}  top1 {top1.avg:.3f}')
    return {'loss': loss.avg, 'top1': top1.avg}


if __name__ == '__main__':
    main()
