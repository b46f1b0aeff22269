"""The --sumix flags' texts, and what SUMix cannot be combined with; what an option may be is the library's to say."""
import argparse
import os
from dataclasses import fields
from typing import Any, Callable, Collection, Dict, NamedTuple, NoReturn, Tuple, Union

from timm.utils import ParseKwargs
from timm.utils.distributed import world_info_from_env

from timm_sumix import SUMixLoss, SUMixMixup, SUMixOptions
from timm_sumix.correction import RATIOS
from timm_sumix.mixing.policies import POLICIES
from timm_sumix.options import PRESETS

from .checks import JSD, is_multi_label, named_criterion
from .config import nearest
from .errors import exit_on_user_error, log_once, refuse

CONFLICTS = {  # argument of the script: why SUMix cannot be combined with it
    'jsd_loss': JSD,
    'aug_splits': 'timm does not mix images of augmentation splits',
    'naflex_loader': 'patches of various sizes are mixed by another class',
    'torchscript': 'a scripted model hides the features that the uncertainty head needs',
}
ITERABLE = ('wds/', 'tfds/', 'hfids/')  # timm's data sets that workers shuffle by themselves


class Settings(NamedTuple):
    """What the flags ask for."""
    mixup: Dict[str, Any]  # arguments for SUMixMixup beside those the script passes
    options: SUMixOptions


def _pair(text: str) -> str:
    if '=' not in text:
        raise argparse.ArgumentTypeError(f'must be OPTION=VALUE, got {text!r}')
    return text


def _ratio(text: str) -> Union[str, Tuple[float, ...]]:
    try:
        return tuple(float(weight) for weight in text.split(',')) if ',' in text else text
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'must be a name or three numbers W,S,K, got {text!r}') from error


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the --sumix flags to a train script's parser, whose errors become one line."""
    def group(title: str) -> Callable:
        return parser.add_argument_group(f'SUMix: {title}').add_argument

    group('turn it on')(
        '--sumix', action='store_true', help='corrected labels of mixed images, arXiv 2407.07805 (default: off)')
    group('preview')(
        '--sumix-preview', type=int, default=0, metavar='N',
        help='once an epoch, save N images of a mixed batch with their labels (default: 0)')
    add = group('which label')
    add('--sumix-preset', choices=list(PRESETS), default='default',
        help='what is not given below: defaults, as in the paper, or as in its code (default: default)')
    for option in fields(SUMixOptions):
        text = option.metadata['help'] + ('' if option.default is None else f' (default: {option.default})')
        own = {'type': option.metadata['type'], 'choices': option.metadata['choices']}
        if option.name == 'ratio':
            own = {'type': _ratio, 'metavar': 'RATIO'}
            text += ': ' + ', '.join(f'{name} ({create().origin})' for name, create in RATIOS.items()) + '; or W,S,K'
        add(f'--sumix-{option.name.replace("_", "-")}', **own, help=text)
    add = group('what is mixed')
    add('--sumix-policy', nargs='+', metavar='P', help=f'{", ".join(POLICIES)} (default: by --mixup and --cutmix)')
    add('--sumix-policy-probs', nargs='+', type=float, metavar='P', help='their probabilities (default: equal ones)')
    add('--sumix-policy-kwargs', nargs='*', type=_pair, action=ParseKwargs, default={}, metavar='OPTION=VALUE',
        help="alpha=1.0 of one policy, fmix.alpha=1.0 of several (default: the papers'; cutmix 1.0)")
    group("masks (distillation is timm's --kd-model-name)")(
        '--sumix-masks', default='', metavar='FOLDER',
        help='true labels by masks of the objects, a PNG for each picture, in folders like the data\'s (default: none)')

    def refuse_arguments(message: str) -> NoReturn:
        wrong = [word for word in message.split() if word.startswith('--') and message.startswith('unrecognized')]
        refuse(message + ''.join(nearest(word.split('=')[0], list(parser._option_string_actions)) for word in wrong))
    parser.error = refuse_arguments  # type: ignore[method-assign]


@exit_on_user_error()
def resolve(args: argparse.Namespace, given: Collection[str] = ()) -> Settings:
    """Return what the parsed arguments ask for, and turn mixing on in them; exits before data or model are built."""
    own = {option.name: getattr(args, f'sumix_{option.name}') for option in fields(SUMixOptions)}
    options = SUMixOptions.preset(args.sumix_preset, **{key: value for key, value in own.items() if value is not None})
    _check_conflicts(args, options)
    loss = SUMixLoss(named_criterion(args), options)
    if is_multi_label(args):
        loss.check_multi_label()
    mixup = _resolve_mixing(args, given)
    if getattr(args, 'use_multi_epochs_loader', False) or (args.dataset or '').startswith(ITERABLE):
        log_once(
            'loader workers go on from one epoch to the next, so a resumed run will not repeat an uninterrupted one.')
    if getattr(args, 'reprob', 0.) and not getattr(args, 'no_prefetcher', False):
        log_once('with the prefetcher, random erasing (--reprob) comes before mixing, not after it.')
    return Settings(mixup, options)


def _check_conflicts(args: argparse.Namespace, options: SUMixOptions) -> None:
    of = vars(args).get  # what some scripts have
    preview, dataset, masks = args.sumix_preview or 0, args.dataset or '', args.sumix_masks
    problems = [
        (of('task') not in (None, 'classification', 'multilabel'),
         f'--sumix needs --task classification or multilabel, got {of("task")!r}'),
        *((of(name), f'--sumix cannot be combined with --{name.replace("_", "-")}: {CONFLICTS[name]}')
          for name in CONFLICTS),
        (is_multi_label(args) and of('kd_model_name'), '--task multilabel cannot be combined with --kd-model-name'),
        (of('aug_repeats') and world_info_from_env()[2] == 1,
         f'--aug-repeats {of("aug_repeats")} needs several processes: in one, add --aug-repeats 0'),
        (preview < 0, f'--sumix-preview must be a number of images, 0 or greater, got {preview}')]
    of_masks = [
        (not os.path.isdir(masks or ''), f'must be a folder, got {masks!r}'),
        (options.ratio == 'released', 'gives each image a share of its own, ratio \'released\' has one'),
        (dataset.startswith(ITERABLE), f'needs pictures in folders or tar files, got --dataset {dataset}'),
        (of('save_images') and not of('no_prefetcher'), 'with --save-images needs --no-prefetcher'),
        (str(of('aa')).startswith('augmix'), f'cannot follow --aa {of("aa")}, which blends images'),
        (of('train_img_sizes'), 'cannot be combined with --train-img-sizes')]
    problems += [(masks and is_wrong, f'--sumix-masks {text}') for is_wrong, text in of_masks]
    for is_wrong, text in problems:
        if is_wrong:
            raise ValueError(text)


def _resolve_mixing(args: argparse.Namespace, given: Collection[str]) -> Dict[str, Any]:
    """Set --mixup and --cutmix, which turn the script's mixing on; return SUMixMixup's arguments by --sumix-policy."""
    by_script, policy = bool(args.mixup or args.cutmix or args.cutmix_minmax), args.sumix_policy
    is_named, policy = policy is not None, [policy] if isinstance(policy, str) else policy
    names = policy if is_named else [] if by_script else ['cutmix']
    if is_named and args.mixup and 'mixup' not in names:
        raise ValueError(f"--mixup {args.mixup} needs 'mixup' among the policies {names}")
    kwargs, probs = _by_policy(args.sumix_policy_kwargs or {}), args.sumix_policy_probs
    if not is_named and (probs or kwargs):
        raise ValueError('--sumix-policy-probs and --sumix-policy-kwargs need --sumix-policy')
    settings = {'policy': names, 'policy_probs': probs, 'policy_kwargs': kwargs} if is_named else {}
    for flag in {'mixup', 'cutmix'} & set(names):
        if not getattr(args, flag) and not (flag == 'cutmix' and args.cutmix_minmax):
            if flag in given:
                raise ValueError(f'--{flag} 0 was given, and nothing would be mixed by {flag}: --sumix needs an alpha')
            setattr(args, flag, 1.)
    if not (args.mixup or args.cutmix or args.cutmix_minmax):
        args.cutmix = 1.  # no policy's: the script mixes only where one of these is set
    mixup = SUMixMixup(  # so that its errors come now
        args.mixup, args.cutmix, args.cutmix_minmax, args.mixup_prob, args.mixup_switch_prob, args.mixup_mode,
        label_smoothing=args.smoothing or 0.,  # None where the script resolves it later: then it is checked there
        multi_label=is_multi_label(args), **settings)
    parts = []
    for policy, prob in zip(mixup.policies, mixup.policy_probs):
        name, alpha = type(policy).__name__, getattr(policy, 'alpha', None)
        if settings and name.lower() in ('mixup', 'cutmix'):
            setattr(args, name.lower(), alpha)  # by --sumix-policy-kwargs, for the saved args.yaml
        parts.append(name + ('' if alpha is None else f', alpha {alpha}') + ('' if prob == 1 else f' ({prob:.0%})'))
    reason = '' if by_script or is_named else 'neither --mixup nor --cutmix was given: '
    log_once(f'{reason}mixing by {"; ".join(parts)}.')
    return settings


def _by_policy(options: Dict[str, Any]) -> Dict[str, Any]:
    """Return options with keys such as 'fmix.alpha' as {'fmix': {'alpha': ...}}, others as they are."""
    nested: Dict[str, Any] = {}
    for key, value in options.items():
        policy, dot, option = key.partition('.')
        if any(isinstance(each, str) for each in (value.values() if isinstance(value, dict) else [value])):
            raise ValueError(f'--sumix-policy-kwargs {key} must be a number or several, got {value!r}')
        nested.update({policy: {**nested.get(policy, {}), option: value}} if dot else {key: value})
    return nested
