"""What ends a run in one line, the user's error or a script and timm that do not fit, and what one process logs."""
import logging
import re
import sys
from contextlib import contextmanager
from typing import Iterator, NoReturn

logger = logging.getLogger('train_patch')

OLDEST = '1.0.27'  # the first timm whose tasks keep the trained module and the validated model apart

# names in the library's messages, as patterns: the flag. Plain words are names only before a value or a verb.
BEFORE_VALUE = r"(?= (?:must|has|'|\d))"
FLAGS = {
    r'original_pass': '--sumix-original-pass', r'policy_(probs|kwargs)': r'--sumix-policy-\1',
    r'gamma': '--sumix-gamma', r'same uncertainty': 'same --sumix-uncertainty', r'cutmix_minmax': '--cutmix-minmax',
    rf'(preset|ratio|strength|uncertainty|policy){BEFORE_VALUE}': r'--sumix-\1', r'(mixup|cutmix)_alpha': r'--\1',
    r'switch_prob': '--mixup-switch-prob', rf'(mode|prob){BEFORE_VALUE}': r'--mixup-\1',
    r'label smoothing': '--smoothing', r'initial_checkpoint': '--initial-checkpoint', r'num_classes': '--num-classes',
    r'multi_label': '--task multilabel', r'(task|model)\.compile\(\)': r'\1.compile() (--torchcompile)',
}


def log_once(text: str, level: int = logging.INFO) -> None:
    """Log from the first process alone, before torch.distributed is initialised."""
    from timm.utils.distributed import world_info_from_env  # not before the script's own folder is in sys.path
    if world_info_from_env()[1] == 0:
        logger.log(level, f'SUMix: {text}')


def refuse(text: str) -> NoReturn:
    """Exit with one line, the launcher's flags in place of the library's names."""
    for name, flag in FLAGS.items():
        text = re.sub(rf'(?<![\w-]){name}(?!\w)', flag, text)
    sys.exit(f'train_patch: {text}')


@contextmanager
def exit_on_user_error(flag: str = '') -> Iterator[None]:
    """Exit in one line, that begins with the flag, where the library refuses what the flags ask for."""
    try:
        yield
    except (TypeError, ValueError) as error:
        refuse(f'{flag}{error}')


def check_timm() -> None:
    """Exit unless the installed timm is new enough."""
    numbers, oldest = ([int(number) for number in re.findall(r'\d+', each)[:3]] for each in (_installed(), OLDEST))
    if numbers < oldest:
        refuse(
            f'--sumix needs timm {OLDEST} or newer, and timm {_installed()} is installed: pip install --upgrade timm, '
            'and take the train.py of that version')


def refuse_script(reason: str) -> NoReturn:
    """Exit because the script does not fit the installed timm, or SUMix."""
    refuse(
        f'{sys.argv[0]} {reason}; --sumix needs timm {OLDEST} or newer and the train.py of the same version, and timm '
        f'{_installed()} is installed')


@contextmanager
def exit_on_mismatch() -> Iterator[None]:
    """Exit in one line if the script asks of timm what the installed version does not have; other errors pass."""
    try:
        yield
    except (AttributeError, ImportError) as error:
        asked = error.name if isinstance(error, ImportError) else getattr(getattr(error, 'obj', None), '__spec__', None)
        name = str(getattr(asked, 'name', asked))  # a module's, whether it or one of its names is missing
        if name.partition('.')[0] in ('timm', 'timm_sumix'):
            refuse_script(f'asks for what is not there: {error}')
        raise


def _installed() -> str:
    import timm
    return timm.__version__
