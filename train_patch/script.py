"""Loading a train script as the main module, with stand-ins in the places of timm's names while it runs."""
import importlib
import importlib.util
import inspect
import os
import sys
from abc import ABCMeta
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, Callable, Dict, Iterator

from .errors import refuse, refuse_script

NAMES = ('parser', 'train_one_epoch', 'main')  # of the script's own


def load_script(script: str) -> ModuleType:
    """Load a train script as the main module, without running its main(); exits if it lacks a name that is needed."""
    # the name under which multiprocessing loads a main module, so that workers find the script's classes
    spec = importlib.util.spec_from_file_location('__mp_main__', script)
    if spec is None or spec.loader is None:
        refuse(f'{script} must be a Python file, and its name end in .py')
    module = importlib.util.module_from_spec(spec)
    module.__file__ = os.path.abspath(script)
    sys.modules['__main__'] = sys.modules['__mp_main__'] = module
    spec.loader.exec_module(module)
    module.__spec__ = None  # as of a script that is started directly: workers load it by its path
    missing = [name for name in NAMES if not hasattr(module, name)]
    if missing:
        refuse_script(f'has no {", ".join(missing)}')
    return module


def stand_in(original: Any, create: Callable, own: Any) -> type:
    """Return a stand-in, in isinstance() too, whose call returns create(**arguments), of those that `own` has."""
    known = inspect.signature(own).parameters

    class StandIn(original, metaclass=ABCMeta):
        __doc__ = original.__doc__

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            if cls is not StandIn:
                return super().__new__(cls)
            parameters = inspect.signature(original).parameters
            given = {**dict(zip(parameters, args)), **kwargs}
            for name in given.keys() - known.keys():  # of newer timm: without effect if it is timm's default
                if name not in parameters or repr(given[name]) != repr(parameters[name].default):
                    refuse_script(
                        f'asks for what is not there: SUMix has no {name} for {cls.__name__}, got {given[name]!r}')
            return create(**{name: value for name, value in given.items() if name in known})

        @classmethod
        def __subclasshook__(cls, other: type) -> Any:
            return issubclass(other, original) if cls is StandIn else NotImplemented

    StandIn.__name__ = original.__name__
    return StandIn


@contextmanager
def swapped(stand_ins: Dict[Any, Any]) -> Iterator[None]:
    """Put {original: stand-in} into the originals' modules and the packages of these; afterwards put all back."""
    with ExitStack() as stack:
        for original, own in stand_ins.items():
            for name in (original.__module__, original.__module__.rpartition('.')[0]):
                place = importlib.import_module(name)
                stack.callback(setattr, place, original.__name__, original)
                setattr(place, original.__name__, own)
        yield
