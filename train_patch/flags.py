"""The --sumix flags: adding them to a train script's parser, and checking them before data or model are built.

What an option may be is decided by the library; here are the flags' texts, and what SUMix cannot be combined with.
"""
import argparse
import os
from dataclasses import fields
from typing import Any, Dict, NamedTuple, Tuple, Union

from timm.utils import ParseKwargs

from timm_sumix import SUMixLoss, SUMixMixup, SUMixOptions
from timm_sumix.distillation import student_options
from timm_sumix.mixing.mixup import MODES
from timm_sumix.mixing.policies import POLICIES, default_options, policy_names
from timm_sumix.options import PRESETS

from .criterion import JSD, is_multi_label, named_criterion
from .log import log_once

OPTION_KEYS = {f'sumix_{option.name}': option for option in fields(SUMixOptions)}
OTHER_KEYS = (
    'sumix', 'sumix_preset', 'sumix_policy', 'sumix_policy_probs', 'sumix_policy_kwargs', 'sumix_preview',
    'sumix_masks', 'sumix_teacher_shares')

# what SUMix cannot be combined with: argument of the script, and why
CONFLICTS = {
    'jsd_loss': JSD,
    'aug_splits': 'timm does not mix images of augmentation splits',
    'naflex_loader': 'patches of various sizes are mixed by another class',
    'torchscript': 'a scripted model hides the features that the uncertainty head needs',
}

# timm's data sets that workers shuffle by themselves
ITERABLE = ('wds/', 'tfds/', 'hfids/')


class Settings(NamedTuple):
    """What the flags ask for.

    Args:
        mixup: Arguments for SUMixMixup that replace or extend those the script passes.
        options: Options of the correction.
        preview: Number of images in each epoch's preview, 0 for none.
        masks: Folder of the objects' masks, '' for none.
        teacher_shares: Whether a teacher tells the shares.
    """
    mixup: Dict[str, Any]
    options: SUMixOptions
    preview: int
    masks: str
    teacher_shares: bool


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the --sumix flags to a train script's parser."""
    group = parser.add_argument_group('SUMix', 'Correct the labels of mixed images (arXiv 2407.07805).')
    group.add_argument('--sumix', action='store_true', default=False, help='turn SUMix on')
    group.add_argument(
        '--sumix-preset', choices=list(PRESETS), default='default',
        help='settings of what is not given below: the defaults, as in the paper, or as in its released code')
    for key, option in OPTION_KEYS.items():
        choices = option.metadata['choices']
        own: Dict[str, Any] = {'type': option.metadata['type'], 'choices': choices}
        if option.name == 'ratio':
            own = {'type': ratio_of, 'metavar': f'{{{",".join(choices)}}} or W,S,K'}
        group.add_argument(
            f'--{key.replace("_", "-")}', **own, default=None,
            help=f'{option.metadata["help"]} (default: {option.default}, unless the preset sets it)')
    group.add_argument(
        '--sumix-policy', nargs='+', default=None, metavar='P',
        help=f'mixing policies to draw from, of {list(POLICIES)} (default: by --mixup and --cutmix)')
    group.add_argument(
        '--sumix-policy-probs', nargs='+', type=float, default=None, metavar='P',
        help='probability of each named policy (default: equal ones)')
    group.add_argument(
        '--sumix-policy-kwargs', nargs='*', action=ParseKwargs, default={}, metavar='OPTION=VALUE',
        help='options of the named policy (alpha=1.0), of several (fmix.alpha=1.0); default: the papers\'')
    group.add_argument(
        '--sumix-preview', type=int, default=0, metavar='N',
        help='once an epoch, save N images of a mixed batch with their labels (default: 0, none)')
    group.add_argument(
        '--sumix-masks', default='', metavar='FOLDER',
        help='masks of the objects, a PNG for each picture in folders like those of the data: true labels')
    group.add_argument(
        '--sumix-teacher-shares', action='store_true', default=False,
        help='with --kd-model-name: correct labels by what the teacher recognises, not the student')


def ratio_of(text: str) -> Union[str, Tuple[float, ...]]:
    """Return the ratio that a flag names: a name as it is, or weights W,S,K as numbers."""
    if ',' not in text:
        return text
    try:
        return tuple(float(weight) for weight in text.split(','))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'must be a name or three numbers W,S,K, got {text!r}') from error


def resolve(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Settings:
    """Check the parsed arguments, complete them, and return what they ask for.

    Where no mixing was asked for, `args` is given that of --sumix: CutMix at alpha 1, or the named policy at its own
    alpha. Any error is the parser's, which ends the program, before data or model are built.
    """
    try:
        _check_keys(args)
        _check_conflicts(args)
        given = {option.name: getattr(args, key, None) for key, option in OPTION_KEYS.items()}
        options = SUMixOptions.preset(
            args.sumix_preset, **{name: value for name, value in given.items() if value is not None})
        _check_preview(args.sumix_preview)
        masks = _masks_folder(args, options)
        settings = Settings(_mixup_settings(args), options, args.sumix_preview, masks, args.sumix_teacher_shares)
        _try_out(args, settings)
    except (TypeError, ValueError) as error:
        parser.error(f'--sumix: {error}')
    if getattr(args, 'use_multi_epochs_loader', False) or (args.dataset or '').startswith(ITERABLE):
        log_once(
            'loader workers go on from one epoch to the next, so a resumed run will not repeat an uninterrupted one.')
    if getattr(args, 'reprob', 0.) and not getattr(args, 'no_prefetcher', False):
        log_once('with the prefetcher, random erasing (--reprob) comes before mixing, not after it.')
    return settings


def _check_keys(args: argparse.Namespace) -> None:
    known = [*OTHER_KEYS, *OPTION_KEYS]
    unknown = [key for key in vars(args) if key.startswith('sumix') and key not in known]
    if unknown:
        raise ValueError(f'the config file may have the keys {known}, got {unknown}')


def _check_conflicts(args: argparse.Namespace) -> None:
    task = getattr(args, 'task', None)  # of newer scripts
    if task not in (None, 'classification', 'multilabel'):
        raise ValueError(f'needs --task classification or multilabel, got {task!r}')
    for name, reason in CONFLICTS.items():
        if getattr(args, name, None):
            raise ValueError(f'cannot be combined with --{name.replace("_", "-")}: {reason}')
    if args.mixup_mode not in MODES:
        raise ValueError(f'--mixup-mode must be one of {list(MODES)}, got {args.mixup_mode!r}')


def _check_preview(count: Any) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f'--sumix-preview must be a number of images, 0 or greater, got {count!r}')


def _masks_folder(args: argparse.Namespace, options: SUMixOptions) -> str:
    folder = args.sumix_masks or ''
    if not folder:
        return ''
    if not os.path.isdir(folder):
        raise ValueError(f'--sumix-masks must be a folder, got {folder!r}')
    if options.ratio == 'released':
        raise ValueError("--sumix-masks gives each image a share of its own, and ratio 'released' has one for a batch")
    if (args.dataset or '').startswith(ITERABLE):
        raise ValueError(f'--sumix-masks needs pictures in folders or tar files, got --dataset {args.dataset}')
    if getattr(args, 'save_images', False) and not getattr(args, 'no_prefetcher', False):
        raise ValueError('--sumix-masks cannot be combined with --save-images, unless with --no-prefetcher')
    if str(getattr(args, 'aa', None)).startswith('augmix'):
        raise ValueError(f'--sumix-masks cannot follow --aa {args.aa}, which blends images that moved differently')
    if getattr(args, 'train_img_sizes', None):
        raise ValueError('--sumix-masks cannot be combined with --train-img-sizes: masks follow one transform')
    return folder


def _mixup_settings(args: argparse.Namespace) -> Dict[str, Any]:
    asked = bool(args.mixup or args.cutmix or args.cutmix_minmax)
    if args.sumix_policy is None:
        if not asked:
            args.cutmix = 1.
            log_once('neither --mixup nor --cutmix was given: mixing by CutMix, alpha 1.0.')
        if args.sumix_policy_probs or args.sumix_policy_kwargs:
            raise ValueError('--sumix-policy-probs and --sumix-policy-kwargs need --sumix-policy')
        return {}
    names = policy_names(args.sumix_policy)
    if args.mixup and 'mixup' not in names:
        raise ValueError(f"--mixup {args.mixup} needs 'mixup' among the policies {names}")
    settings = {
        'policy': names,
        'policy_probs': args.sumix_policy_probs,
        'policy_kwargs': _by_policy(args.sumix_policy_kwargs),
        'mixup_alpha': args.mixup,
        'cutmix_alpha': args.cutmix,
        'cutmix_minmax': args.cutmix_minmax,
    }
    mixup = SUMixMixup(**settings)
    if not asked:  # the script mixes only where one of its own flags is set
        flag = 'mixup' if names == ['mixup'] else 'cutmix'
        setattr(args, flag, default_options(flag)['alpha'] if flag in names else 1.)
    shares = zip(mixup.policies, mixup.policy_probs)
    log_once(f'mixing by {", ".join(f"{policy} ({prob:.0%})" for policy, prob in shares)}.')
    return settings


def _by_policy(options: Dict[str, Any]) -> Dict[str, Any]:
    """Return options with keys such as 'fmix.alpha' as {'fmix': {'alpha': ...}}, others as they are."""
    if not isinstance(options or {}, dict):
        raise ValueError(f'sumix_policy_kwargs must be pairs, option: value, got {options!r}')
    nested: Dict[str, Any] = {}
    for key, value in (options or {}).items():
        policy, dot, option = key.partition('.')
        if dot:
            nested.setdefault(policy, {})[option] = value
        else:
            nested[key] = value
    return nested


def _try_out(args: argparse.Namespace, settings: Settings) -> None:
    """Build what needs neither data nor model, so that it raises now."""
    loss = SUMixLoss(named_criterion(args), settings.options)
    if is_multi_label(args):
        loss.check_multi_label()
        if getattr(args, 'kd_model_name', None):
            raise ValueError('--task multilabel cannot be combined with --kd-model-name')
    if settings.teacher_shares:
        if not getattr(args, 'kd_model_name', None):
            raise ValueError('--sumix-teacher-shares needs a teacher, --kd-model-name')
        student_options(settings.options)
    mixup = {
        'mixup_alpha': args.mixup,
        'cutmix_alpha': args.cutmix,
        'cutmix_minmax': args.cutmix_minmax,
        'prob': args.mixup_prob,
        'switch_prob': args.mixup_switch_prob,
        'mode': args.mixup_mode,
        'multi_label': is_multi_label(args),
        'label_smoothing': args.smoothing or 0.,  # None where the script resolves it later: then it is checked there
    }
    SUMixMixup(**{**mixup, **settings.mixup})
