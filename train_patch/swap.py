"""Stand-ins for names of timm, put where the names are looked up: in timm's packages, while a script runs."""
import importlib
import inspect
from contextlib import contextmanager
from typing import Any, Callable, Dict, FrozenSet, Iterable, Iterator

from .versions import Mismatch


class StandIn(type):
    """Class of the stand-ins. Calling one makes what takes the place of the original's instances.

    It passes for the original elsewhere: instances and subclasses of the original are its own, so checks go on to work,
    and what a script derives from it behaves as if derived from the original.
    """

    _original: type
    _create: Callable
    _known: FrozenSet[str]

    @classmethod
    def of(mcs, original: type, create: Callable, known: Iterable[str]) -> 'StandIn':
        """Return a stand-in for `original` that calls `create` with the `known` arguments, each by its name."""
        members = {'_original': original, '_create': staticmethod(create), '_known': frozenset(known)}
        return mcs(original.__name__, (original,), {'__doc__': original.__doc__, **members})

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if not cls._stands_in():
            return super().__call__(*args, **kwargs)
        parameters = inspect.signature(cls._original).parameters
        given = {**dict(zip(parameters, args)), **kwargs}
        for name in given.keys() - cls._known:  # an argument of newer timm: without effect if it is timm's default
            if name not in parameters or repr(given[name]) != repr(parameters[name].default):
                raise Mismatch(f'SUMix has no {name} for {cls.__name__}, got {given[name]!r}')
        return cls._create(**{name: value for name, value in given.items() if name in cls._known})

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls._original) if cls._stands_in() else super().__instancecheck__(instance)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, cls._original) if cls._stands_in() else super().__subclasscheck__(other)

    def _stands_in(cls) -> bool:
        return '_original' in vars(cls)  # not so what a script derives from it


@contextmanager
def swapped(stand_ins: Dict[Any, Any]) -> Iterator[None]:
    """Put {original: stand-in} into the originals' modules and the packages of these; afterwards put all back."""
    places = []
    for original in stand_ins:
        module = original.__module__
        places += [(importlib.import_module(name), original) for name in (module, module.rpartition('.')[0])]
    try:
        for place, original in places:
            setattr(place, original.__name__, stand_ins[original])
        yield
    finally:
        for place, original in places:
            setattr(place, original.__name__, original)
