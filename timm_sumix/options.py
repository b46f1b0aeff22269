"""Every setting of the correction: its default, its check and its help text, once.

SUMixLoss, SUMixTask, correct() and the launcher's --sumix flags are all made from the fields of SUMixOptions.
"""
from dataclasses import dataclass, field, fields, replace
from typing import Any, Callable, Dict, Optional, Sequence, Union

from .correction import RATIOS, WITH_ORIGINAL, Ratio, create_ratio

UNCERTAINTIES = ('head', 'logits', 'none')
ORIGINAL_PASSES = ('none', 'no-grad', 'grad')

# name: the options that differ from the defaults
PRESETS: Dict[str, Dict[str, Any]] = {
    'default': {},
    'paper': {'ratio': 'similarity', 'gamma': 0.5, 'uncertainty': 'head', 'original_pass': 'grad'},
    'released': {'ratio': 'released', 'gamma': 0.5, 'uncertainty': 'head', 'original_pass': 'grad'},
}


def _choice(default: Optional[str], choices: Sequence[str], help: str, or_callable: bool = False) -> Any:
    """Return an option that is one of `choices`, or a callable if that is allowed too."""
    def check(name: str, value: Any) -> None:
        if value in choices or value is None and default is None or or_callable and callable(value):
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
        ratio: How labels are corrected: 'evidence', 'feature', 'similarity', 'released' or 'area' (not at all), or a
            callable of your own, (mixed HeadOutput, original HeadOutput or None, MixedTarget) -> lam [N].
        strength: Strength of the correction, 0 or greater; None: the ratio's own default (similarity 2, feature 8).
            For 'evidence' it is the weight of the unmixed images' features, and asks for a pass over them; there it is
            1 by default.
            'released', 'area' and a callable have none.
        gamma: Weight of the uncertainty term, 0 or greater; 0 leaves the term out, and makes no head.
        uncertainty: What models uncertainty. 'head': a linear head on the pre-logits features, trained along and saved
            as task state; 'logits': the logits themselves; 'none': no uncertainty term, whatever gamma is.
        original_pass: The pass over the unmixed images. 'none': there is none, and a step costs what CutMix's does;
            'no-grad': a second forward; 'grad': with gradient for the uncertainty term, as in the authors' code
            (without the term there is no such gradient). None: the cheapest that ratio and gamma need, 'none' for
            'evidence' and 'area', 'no-grad' for the others, 'grad' with the term. With 'none', 'evidence' reads the
            mixed image alone, with a pass both unmixed ones.
        original_scale: Resolution of the unmixed images in their pass, in (0, 1], as a fraction of the input's.
        fade: Where less than this fraction of one object is visible, in both parts together, the target fades to equal
            probabilities (with a binary cross-entropy to 0), in [0, 2]; 0: it never does. Needs ratio 'evidence'.

    Raises:
        TypeError: If a number is of another type.
        ValueError: If a value is out of range or unknown, or options contradict each other.
    """
    ratio: Union[str, Callable] = _choice('evidence', list(RATIOS), 'how labels are corrected', or_callable=True)
    strength: Optional[float] = _number(
        None, _is_weight, '0 or greater', "strength of the correction (None: the ratio's own)")
    gamma: float = _number(0., _is_weight, '0 or greater', 'weight of the uncertainty term')
    uncertainty: str = _choice(
        'head', UNCERTAINTIES, 'what models uncertainty: a linear head, the logits, or nothing')
    original_pass: Optional[str] = _choice(
        None, ORIGINAL_PASSES, 'pass over the unmixed images (None: the cheapest that ratio and gamma need)')
    original_scale: float = _number(
        1., lambda value: 0. < value <= 1., 'in (0, 1]',
        "resolution of the unmixed images in their pass, as a fraction of the input's")
    fade: float = _number(
        0., lambda value: 0. <= value <= 2., 'in [0, 2]',
        'fade targets to equal probabilities where less than this fraction of one object is visible, 0: never')

    def __post_init__(self):
        for option in fields(self):
            option.metadata['check'](option.name, getattr(self, option.name))
        reason = self._reason_for_originals()
        if self.original_pass == 'none' and reason:
            raise ValueError(
                f"original_pass 'none' leaves out the unmixed images, which {reason} needs: use 'no-grad' or 'grad', "
                "or ratio 'evidence' without strength and with gamma 0")
        if self.original_scale != 1. and self.resolved_pass == 'none':
            raise ValueError(
                f'original_scale {self.original_scale:g} has no effect without a pass over the unmixed images: give '
                "original_pass 'no-grad' too")
        ratio = self.create_ratio()  # raises if the ratio takes no strength
        if self.fade > 0 and not (ratio.mixed_evidence or ratio.original_evidence):
            raise ValueError(f"fade {self.fade:g} needs the evidence, which ratio {ratio.name!r} does not read: use "
                             "ratio 'evidence', or fade 0")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> 'SUMixOptions':
        """Return the options of a preset, 'default', 'paper' or 'released', with any of them changed by keyword."""
        if name not in PRESETS:
            raise ValueError(f'preset must be one of {list(PRESETS)}, got {name!r}')
        return cls(**{**PRESETS[name], **changes})

    def create_ratio(self) -> Ratio:
        """Return the ratio as an object, a callable (mixed, original, target) -> lam [N]."""
        return create_ratio(self.ratio, self.strength, with_original=self.resolved_pass != 'none')

    @property
    def term_weight(self) -> float:
        """Weight of the uncertainty term, 0 where there is no such term."""
        return 0. if self.uncertainty == 'none' else self.gamma

    @property
    def resolved_pass(self) -> str:
        """The pass over the unmixed images that is made: 'none', 'no-grad' or 'grad'."""
        is_function = not isinstance(self.ratio, (str, Ratio))
        wanted = is_function or self._reason_for_originals() is not None
        usable = wanted or isinstance(self.ratio, Ratio) or self.ratio in WITH_ORIGINAL
        if self.original_pass == 'none' or not (wanted if self.original_pass is None else usable):
            return 'none'
        # labels carry no gradient: only the uncertainty term sends one through the unmixed images
        return (self.original_pass or 'grad') if self.term_weight > 0 else 'no-grad'

    def _reason_for_originals(self) -> Optional[str]:
        """Return what needs the unmixed images, for an error; None if nothing does."""
        if self.term_weight > 0:
            return f'the uncertainty term (gamma {self.gamma:g})'
        if isinstance(self.ratio, Ratio):
            return f'ratio {self.ratio.name!r}' if self.ratio.needs_original else None
        if not isinstance(self.ratio, str):
            return None  # a function of one's own may do without
        if RATIOS[self.ratio].needs_original:
            return f'ratio {self.ratio!r}'
        if self.strength is not None and self.ratio in WITH_ORIGINAL:
            return f'the strength of ratio {self.ratio!r}'
        return None


def resolve_options(options: Optional[SUMixOptions], changes: Dict[str, Any]) -> SUMixOptions:
    """Return `options` (None: the defaults) with the changes; TypeError if a change is none of their fields."""
    known = [option.name for option in fields(SUMixOptions)]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise TypeError(f'options must be among {known}, got {unknown}')
    return replace(options or SUMixOptions(), **changes)
