"""The --sumix flags: adding them to a train script's parser, and checking them before data or model are built."""
import argparse
import inspect
import logging
from typing import Any, Dict, NamedTuple

from timm.loss import BinaryCrossEntropy
from timm.utils import ParseKwargs

from timm_sumix import SUMixLoss, SUMixMixup, SUMixTask
from timm_sumix.mixup import MODES
from timm_sumix.policies import POLICIES, create_policy, policy_names
from timm_sumix.ratio import RATIOS
from timm_sumix.task import ORIGINAL_PASSES, UNCERTAINTIES, check_task_options

_logger = logging.getLogger('train_patch')

# argument of SUMixTask: (type, choices, help); its flag is --sumix-ARGUMENT and its default the task's own
TASK_FLAGS = {
    'ratio': (str, list(RATIOS), 'how labels are corrected'),
    'temperature': (float, None, 'strength of the correction (None: the ratio\'s own)'),
    'gamma': (float, None, 'weight of the uncertainty term (None: 0, and 0.5 for ratio released)'),
    'uncertainty': (str, list(UNCERTAINTIES), 'what models uncertainty: a linear head, the logits, or nothing'),
    'original_pass': (str, list(ORIGINAL_PASSES), 'whether gradient flows through the pass over the originals'),
    'original_scale': (float, None, 'resolution of the originals in their pass, as a share of the input\'s'),
}

POLICY_KEYS = ('sumix_policy', 'sumix_policy_probs', 'sumix_policy_kwargs')

# what SUMix cannot be combined with: argument of the script, and why
CONFLICTS = {
    'kd_model_name': 'distillation has a task of its own, in place of classification',
    'jsd_loss': 'the loss over augmentation splits takes no mixed labels',
    'aug_splits': 'timm does not mix images of augmentation splits',
    'naflex_loader': 'patches of various sizes are mixed by another class',
    'torchscript': 'a scripted model hides the features that the uncertainty head needs',
    'multi_label': 'shares are corrected for one class an image',
}


class Settings(NamedTuple):
    """What the flags ask for.

    Args:
        mixup: Arguments for SUMixMixup that replace or extend those the script passes.
        task: Keyword arguments for SUMixTask.
    """
    mixup: Dict[str, Any]
    task: Dict[str, Any]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the --sumix flags to a train script's parser."""
    group = parser.add_argument_group('SUMix', 'Correct the labels of mixed images (arXiv 2407.07805).')
    group.add_argument('--sumix', action='store_true', default=False, help='turn SUMix on')
    group.add_argument(
        '--sumix-policy', nargs='+', default=None, metavar='P',
        help=f'mixing policies to draw from, of {list(POLICIES)} (default: by --mixup and --cutmix)')
    group.add_argument(
        '--sumix-policy-probs', nargs='+', type=float, default=None, metavar='P',
        help='probability of each named policy (default: equal ones)')
    group.add_argument(
        '--sumix-policy-kwargs', nargs='*', action=ParseKwargs, default={}, metavar='OPTION=VALUE',
        help='options of the named policy (alpha=1.0), of several (fmix.alpha=1.0); default: the papers\'')
    defaults = inspect.signature(SUMixTask).parameters
    for name, (kind, choices, text) in TASK_FLAGS.items():
        default = defaults[name].default
        group.add_argument(
            f'--sumix-{name.replace("_", "-")}', type=kind, choices=choices, default=default,
            help=f'{text} (default: {default})')


def settle(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Settings:
    """Check the parsed arguments, complete them, and return what they ask for.

    Where no mixing was asked for, `args` is given that of --sumix: CutMix at alpha 1, or the named policy at its own
    alpha. Any error is the parser's, which ends the program, before data or model are built.
    """
    try:
        _check_keys(args)
        _check_conflicts(args)
        settings = Settings(_mixup_settings(args), {name: getattr(args, f'sumix_{name}') for name in TASK_FLAGS})
        _check_values(args, settings)
    except (TypeError, ValueError) as error:
        parser.error(f'--sumix: {error}')
    if getattr(args, 'reprob', 0.) and not getattr(args, 'no_prefetcher', False):
        _logger.info('SUMix: with the prefetcher, random erasing (--reprob) comes before mixing, not after it.')
    return settings


def _check_keys(args: argparse.Namespace) -> None:
    known = ['sumix', *POLICY_KEYS, *(f'sumix_{name}' for name in TASK_FLAGS)]
    unknown = [key for key in vars(args) if key.startswith('sumix') and key not in known]
    if unknown:
        raise ValueError(f'the config file may have the keys {known}, got {unknown}')


def _check_conflicts(args: argparse.Namespace) -> None:
    for name, reason in CONFLICTS.items():
        if getattr(args, name, None):
            raise ValueError(f'cannot be combined with --{name.replace("_", "-")}: {reason}')
    if args.mixup_mode not in MODES:
        raise ValueError(f'--mixup-mode must be one of {list(MODES)}, got {args.mixup_mode!r}')


def _mixup_settings(args: argparse.Namespace) -> Dict[str, Any]:
    asked = bool(args.mixup or args.cutmix or args.cutmix_minmax)
    if args.sumix_policy is None:
        if not asked:
            args.cutmix = 1.
            _logger.info('SUMix: neither --mixup nor --cutmix was given: mixing by CutMix, alpha 1.0.')
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
    if not asked:  # the script mixes only where one of its own flags is set
        flag = 'mixup' if names == ['mixup'] else 'cutmix'
        setattr(args, flag, create_policy(flag).alpha if flag in names else 1.)
    mixup = SUMixMixup(**settings)
    shares = zip(mixup.policies, mixup.policy_probs)
    _logger.info(f'SUMix: mixing by {", ".join(f"{policy} ({prob:.0%})" for policy, prob in shares)}.')
    return settings


def _by_policy(options: Dict[str, Any]) -> Dict[str, Any]:
    """Return options with keys such as 'fmix.alpha' as {'fmix': {'alpha': ...}}, others as they are."""
    nested = {}
    for key, value in (options or {}).items():
        policy, dot, option = key.partition('.')
        if dot:
            nested.setdefault(policy, {})[option] = value
        else:
            nested[key] = value
    return nested


def _check_values(args: argparse.Namespace, settings: Settings) -> None:
    """Build what needs neither data nor model, so that it raises now; argparse checks no value of a config file."""
    for name, value in settings.task.items():
        kinds = (int, float) if TASK_FLAGS[name][0] is float else (str,)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise TypeError(f'sumix_{name} must be of type {kinds[-1].__name__}, got {value!r}')
    task = settings.task
    check_task_options(task['uncertainty'], task['original_pass'], task['original_scale'])
    base = BinaryCrossEntropy() if getattr(args, 'bce_loss', False) else None
    SUMixLoss(base, task['ratio'], task['temperature'], task['gamma'] or 0.)
    mixup = {
        'mixup_alpha': args.mixup,
        'cutmix_alpha': args.cutmix,
        'cutmix_minmax': args.cutmix_minmax,
        'prob': args.mixup_prob,
        'switch_prob': args.mixup_switch_prob,
        'mode': args.mixup_mode,
        'label_smoothing': args.smoothing,
    }
    SUMixMixup(**{**mixup, **settings.mixup})
