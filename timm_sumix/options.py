"""Every setting of the correction: its default, its check and its help text, once.

SUMixLoss, SUMixTask, correct() and the launcher's --sumix flags are all made from the fields of SUMixOptions.
"""
from dataclasses import dataclass, field, fields, replace
from typing import Any, Callable, Dict, Optional, Sequence

from .correction import RATIOS, Ratio, create_ratio
from .correction.ratios import AnyRatio
from .correction.released import Released

UNCERTAINTIES = ('head', 'logits')
ORIGINAL_PASSES = ('none', 'no-grad', 'grad')

# name: the options that differ from the defaults
PRESETS: Dict[str, Dict[str, Any]] = {
    'default': {},
    'paper': {'ratio': 'similarity', 'gamma': 0.5, 'uncertainty': 'head', 'original_pass': 'grad'},
    'released': {'ratio': 'released', 'gamma': 0.5, 'uncertainty': 'head'},
}


def _choice(default: Optional[str], choices: Sequence[str], help: str, or_ratio: bool = False) -> Any:
    """Return an option that is one of `choices`, or weights or a callable of one's own where `or_ratio` allows that."""
    def check(name: str, value: Any) -> None:
        if value is None and default is None or isinstance(value, str) and value in choices:
            return
        if or_ratio and (callable(value) or isinstance(value, (tuple, list))):
            return
        raise ValueError(f'{name} must be one of {list(choices)}, got {value!r}')

    return field(default=default, metadata={'help': help, 'check': check, 'choices': list(choices), 'type': str})


def _number(default: Optional[float], valid: Callable[[float], bool], range: str, help: str) -> Any:
    """Return an option that is a number for which `valid` holds; `range` says in words which those are."""
    def check(name: str, value: Any) -> None:
        if value is None and default is None:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f'{name} must be a number, {range}, got {value!r}')
        if not valid(value):
            raise ValueError(f'{name} must be {range}, got {value}')

    return field(default=default, metadata={'help': help, 'check': check, 'choices': None, 'type': float})


def _is_weight(value: float) -> bool:
    return 0. <= value < float('inf')


@dataclass(frozen=True)
class SUMixOptions:
    """Settings of the correction, checked when they are made.

    Args:
        ratio: How labels are corrected: 'combined', 'evidence', 'visible', 'feature', 'similarity', 'released' or
            'area' (not at all), weights (w, s, k) of the formula in correction/formula.py, or a callable of your own,
            (mixed ModelOutput, original ModelOutput, MixedTarget) -> lam [N].
        strength: Strength of the correction, 0 or greater; None: the ratio's own default (combined 4, similarity 2,
            feature 8, evidence 1), the weight of the predictions or features that it compares. The others have none.
        gamma: Weight of the uncertainty term, 0 or greater; 0 leaves the term out, and makes no head.
        uncertainty: What models uncertainty. 'head': a linear head on the pre-logits features, trained along and saved
            as task state; 'logits', with ratio 'released' alone: the logits themselves.
        original_pass: The pass over the unmixed images. 'none': there is none, a step costs what CutMix's does, and
            what it would give is unmixed from the mixed images' last feature map; 'no-grad': a second forward; 'grad':
            with gradient too. None: 'none', but for 'released', which is of two passes: 'grad' with the uncertainty
            term, 'no-grad' without. It changes no formula.

    Raises:
        TypeError: If a number is of another type.
        ValueError: If a value is out of range or unknown, or options contradict each other or have no effect.
    """
    ratio: AnyRatio = _choice('similarity', list(RATIOS), 'how labels are corrected', or_ratio=True)
    strength: Optional[float] = _number(
        None, _is_weight, '0 or greater', 'strength of the correction (default: depends on the ratio)')
    gamma: float = _number(0., _is_weight, '0 or greater', 'weight of the uncertainty term; 0 leaves it out')
    uncertainty: str = _choice(
        'head', UNCERTAINTIES, 'what models uncertainty: a linear head, or with ratio released the logits')
    original_pass: Optional[str] = _choice(
        None, ORIGINAL_PASSES, 'second pass, over the unmixed images (default: none, but for ratio released)')

    def __post_init__(self):
        for option in fields(self):
            option.metadata['check'](option.name, getattr(self, option.name))
        ratio = self.create_ratio()  # raises if the ratio takes no strength
        if self.original_pass == 'none' and self._is_released:
            raise ValueError("ratio 'released' is of two passes: use original_pass 'no-grad' or 'grad', got 'none'")
        if self.original_pass == 'grad' and self.gamma == 0:
            raise ValueError(
                "original_pass 'grad' has no effect with gamma 0 (labels carry no gradient): use 'no-grad'")
        if self.original_pass == 'no-grad' and self.gamma == 0 and not ratio.needs:
            raise ValueError(f"original_pass 'no-grad' has no effect with ratio {ratio.name!r}, which reads none of it")
        if self.uncertainty == 'logits' and not (self._is_released and self.gamma > 0):
            raise ValueError("uncertainty 'logits' needs ratio 'released' and gamma above 0: use 'head'")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> 'SUMixOptions':
        """Return the options of a preset, 'default', 'paper' or 'released', with any of them changed by keyword."""
        if name not in PRESETS:
            raise ValueError(f'preset must be one of {list(PRESETS)}, got {name!r}')
        return cls(**{**PRESETS[name], **changes})

    def create_ratio(self) -> Ratio:
        """Return the ratio as an object, a callable (mixed, original, target) -> lam [N]."""
        return create_ratio(self.ratio, self.strength)

    @property
    def resolved_pass(self) -> str:
        """The pass over the unmixed images that is made: 'none', 'no-grad' or 'grad'."""
        if self.original_pass is not None:
            return self.original_pass
        if not self._is_released:
            return 'none'
        return 'grad' if self.gamma > 0 else 'no-grad'

    @property
    def unmixes(self) -> bool:
        """Whether the outputs for the unmixed images are unmixed from the mixed images' map."""
        return self.resolved_pass == 'none' and (self.gamma > 0 or bool(self.create_ratio().needs))

    @property
    def _is_released(self) -> bool:
        return self.ratio == 'released' or isinstance(self.ratio, Released)


def resolve_options(options: Optional[SUMixOptions], changes: Dict[str, Any]) -> SUMixOptions:
    """Return `options` (None: the defaults) with the changes; TypeError if a change is none of their fields."""
    known = [option.name for option in fields(SUMixOptions)]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise TypeError(f'options must be among {known}, got {unknown}')
    return replace(options or SUMixOptions(), **changes)
