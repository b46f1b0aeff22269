"""Script and timm that do not fit each other, or this launcher: told in one line that names the versions."""
import os
import re
import sys
import traceback
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any, Iterator, NoReturn, Tuple

import timm

OLDEST = '1.0.27'  # the first timm whose tasks keep the trained module and the validated model apart


class Mismatch(TypeError):
    """The script gives a class of timm what its replacement does not know."""


def check_timm() -> None:
    """Exit unless the installed timm is new enough."""
    if _numbers(timm.__version__) < _numbers(OLDEST):
        sys.exit(
            f'train_patch: --sumix needs timm {OLDEST} or newer, and timm {timm.__version__} is installed: '
            'pip install --upgrade timm, and take the train.py of that version')


def refuse_script(script: str, reason: str) -> NoReturn:
    """Exit because the script does not fit the installed timm, or SUMix."""
    sys.exit(
        f'train_patch: {script} {reason}; --sumix needs timm {OLDEST} or newer and the train.py of the same version, '
        f'and timm {timm.__version__} is installed')


@contextmanager
def told_in_one_line(script: str) -> Iterator[None]:
    """Exit in one line if the script asks of timm what the installed version does not have; other errors pass."""
    try:
        yield
    except (AttributeError, ImportError, TypeError) as error:
        if _is_mismatch(error, script):
            refuse_script(script, f'asks for what is not there: {error}')
        raise


def _numbers(version: str) -> Tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r'\d+', version)[:3])


def _is_mismatch(error: Exception, script: str) -> bool:
    """Whether an error is the script's asking timm for a module, name, attribute or argument that is not there."""
    if isinstance(error, Mismatch):
        return True
    if isinstance(error, ImportError):
        return _of_timm(error.name or '')
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    frame = [each for each in frames if not _passes_on(each)][-1]
    if frame.f_code.co_filename != os.path.abspath(script):
        return False
    if isinstance(error, AttributeError):
        return _of_timm(_module_of(error.obj))
    called = {**frame.f_globals, **frame.f_locals}.get(re.split(r'\W', str(error), maxsplit=1)[0])
    return 'unexpected keyword argument' in str(error) and _of_timm(_module_of(called))


def _passes_on(frame: FrameType) -> bool:
    """Whether what is asked for in a frame was asked for before it: torch's modules raise in __getattr__."""
    return frame.f_code.co_name == '__getattr__' or frame.f_code.co_filename.startswith(os.path.dirname(__file__))


def _module_of(value: Any) -> str:
    if isinstance(value, ModuleType):
        return value.__name__
    return getattr(value, '__module__', None) or type(value).__module__


def _of_timm(module: str) -> bool:
    return module.partition('.')[0] in ('timm', 'timm_sumix')
