"""How the share of each label in a mixed image is corrected: ratios by name, by weights, or functions of one's own."""
from functools import partial
from typing import Any, Callable, Dict, Optional, Sequence, Union

import torch

from .base import ONE_CLASS, Ratio
from .evidence import evidence_map, visible_evidence
from .formula import WEIGHTS, Formula, check_weights
from .released import Released
from .unmixing import unmix, unmix_by_area

__all__ = ['ONE_CLASS', 'RATIOS', 'Ratio', 'create_ratio', 'evidence_map', 'unmix', 'unmix_by_area', 'visible_evidence']
# name: without arguments, the ratio at its own strength
RATIOS: Dict[str, Callable[[], Ratio]] = {
    **{name: partial(Formula, *weights) for name, weights in WEIGHTS.items()}, 'released': Released}
AnyRatio = Union[str, Sequence[float], Ratio, Callable[..., torch.Tensor]]


class _OwnRatio(Ratio):
    """A function of the user's. It gets the outputs as they are: a field that a model lacks is None."""

    def __init__(self, function: Callable[..., torch.Tensor]):
        self.function = function

    @property
    def name(self) -> str:
        return getattr(self.function, '__name__', type(self.function).__name__)

    def __repr__(self) -> str:
        return self.name

    def _has_outputs(self, *_: Any) -> bool:
        """Check nothing: which fields the function reads is not known."""
        return True

    def shares(self, mixed, original, target):
        return self.function(mixed, original, target)


def create_ratio(ratio: AnyRatio, strength: Optional[float] = None) -> Ratio:
    """Return the ratio of SUMixOptions.ratio and .strength; TypeError or ValueError where there is none such."""
    are_weights = isinstance(ratio, (tuple, list))
    if ratio not in RATIOS if isinstance(ratio, str) else not are_weights and not callable(ratio):
        raise ValueError(f'ratio must be one of {list(RATIOS)}, weights (w, s, k) or a function, got {ratio!r}')
    if isinstance(ratio, str):
        if strength is None:
            return RATIOS[ratio]()
        w, s, k = WEIGHTS.get(ratio, (0., 0., 0.))
        if s or k:  # the weight of what is compared
            return Formula(w, strength, k) if s else Formula(w, s, strength)
    if strength is not None:
        name = ratio if isinstance(ratio, str) else 'of weights' if are_weights else 'of your own'
        raise ValueError(f'ratio {name!r} has no strength, got {strength}: leave it out')
    if isinstance(ratio, (tuple, list)):
        check_weights(ratio)
        return Formula(*ratio)
    if isinstance(ratio, type) and issubclass(ratio, Ratio):
        raise TypeError(f'ratio must be an object, got the class {ratio.__name__}: use {ratio.__name__}()')
    return ratio if isinstance(ratio, Ratio) else _OwnRatio(ratio)  # type: ignore[arg-type]
