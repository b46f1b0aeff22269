"""Ratios by name, by weights, or functions of one's own."""
from functools import partial
from typing import Any, Callable, Dict, Optional, Sequence, Union

import torch

from .base import Ratio
from .formula import STRENGTHS, WEIGHTS, Formula
from .released import Released

# name: without arguments, the ratio at its own strength
RATIOS: Dict[str, Callable[[], Ratio]] = {
    **{name: partial(Formula, *weights) for name, weights in WEIGHTS.items()}, 'released': Released}
AnyRatio = Union[str, Sequence[float], Ratio, Callable[..., torch.Tensor]]


class _OwnRatio(Ratio):
    """A plain function of the user's, given the outputs as they are: a field that a model lacks is None."""

    def __init__(self, function: Callable[..., torch.Tensor]):
        self.function = function

    @property
    def name(self) -> str:
        return getattr(self.function, '__name__', type(self.function).__name__)

    def __repr__(self) -> str:
        return self.name

    def _check(self, *_: Any) -> None:
        """Nothing: what it reads is not known."""

    def shares(self, mixed, original, target):
        return self.function(mixed, original, target)


def create_ratio(ratio: AnyRatio, strength: Optional[float] = None) -> Ratio:
    """Return a ratio by its name or weights, or one of your own as it is.

    Args:
        ratio: A name in RATIOS, weights (w, s, k) of the formula, a Ratio, or a function (mixed, original, target) ->
            lam [N].
        strength: Strength of the correction, for a name that has one; None: the ratio's own.

    Raises:
        TypeError: If the ratio is none of these.
        ValueError: If the name is unknown, a weight is negative, or a strength is given to a ratio that takes none.
    """
    if isinstance(ratio, str):
        if ratio not in RATIOS:
            raise ValueError(f'ratio must be one of {list(RATIOS)} or three weights (w, s, k), got {ratio!r}')
        if strength is None:
            return RATIOS[ratio]()
        if ratio in STRENGTHS:
            weights = list(WEIGHTS[ratio])
            weights[STRENGTHS[ratio]] = strength
            return Formula(*weights)
    elif strength is None:
        return _from_object(ratio)
    name = ratio if isinstance(ratio, str) else 'of weights' if isinstance(ratio, (tuple, list)) else 'of your own'
    raise ValueError(f'ratio {name!r} has no strength, got {strength}: leave it out')


def _from_object(ratio: Any) -> Ratio:
    if isinstance(ratio, (tuple, list)):
        if len(ratio) != 3 or not all(_is_weight(weight) for weight in ratio):
            raise ValueError(
                f'weights of a ratio must be three numbers (w, s, k), 0 or greater, w at most 1, got {ratio}')
        return Formula(*map(float, ratio))
    if isinstance(ratio, type) and issubclass(ratio, Ratio):
        raise TypeError(f'ratio must be an object, got the class {ratio.__name__}: use {ratio.__name__}()')
    return ratio if isinstance(ratio, Ratio) else _OwnRatio(ratio)


def _is_weight(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float('inf')
