"""Every setting of the correction: its default, its check and its help text, once, for loss, task and launcher."""
from dataclasses import dataclass, field, fields
from typing import Any, Dict, Optional, Sequence

from .correction import RATIOS, AnyRatio, Ratio, create_ratio
from .correction.released import Released

# name: the options that differ from the defaults
PRESETS: Dict[str, Dict[str, Any]] = {
    'default': {},
    'paper': {'ratio': 'similarity', 'gamma': 0.5, 'uncertainty': 'head', 'original_pass': 'grad'},
    'released': {'ratio': 'released', 'gamma': 0.5, 'uncertainty': 'head'}}


def _option(default: Any, help: str, choices: Optional[Sequence[str]] = None) -> Any:
    """Return an option that is one of `choices`, or without them a number, 0 or greater."""
    return field(default=default, metadata={'help': help, 'choices': choices, 'type': str if choices else float})


@dataclass(frozen=True)
class SUMixOptions:
    """Settings of the correction, checked when they are made.

    Args:
        ratio: A name, weights (w, s, k) of the formula in correction/formula.py, or a callable of your own, (mixed
            ModelOutput, original ModelOutput, MixedTarget) -> lam [N]. 'area' corrects nothing.
        strength: Weight of the predictions or features that a named ratio compares, 0 or greater; None: its own
            (combined 4, similarity 2, feature 8, evidence 1; the others have none).
        gamma: Weight of the uncertainty term, 0 or greater; with 0 there is no term, and no head.
        uncertainty: 'head', linear, on the pre-logits features, saved as task state; or 'logits', for 'released' alone.
        original_pass: 'none': one pass, and the outputs for the unmixed images are unmixed from the last feature map of
            the mixed ones; 'no-grad': a second forward, over the unmixed images; 'grad': with gradient too. None:
            'none', but for 'released' 'grad' with the uncertainty term and 'no-grad' without. It changes no formula.

    TypeError if a number is of another type; ValueError if options are out of range, unknown, at odds or of no effect.
    """
    ratio: AnyRatio = _option('similarity', 'how labels are corrected', list(RATIOS))
    strength: Optional[float] = _option(None, 'strength of the correction (default: depends on the ratio)')
    gamma: float = _option(0., 'weight of the uncertainty term; 0 leaves it out')
    uncertainty: str = _option(
        'head', 'what models uncertainty: a linear head, or with ratio released the logits', ['head', 'logits'])
    original_pass: Optional[str] = _option(
        None, 'second pass, over unmixed images (default: none, but for ratio released)', ['none', 'no-grad', 'grad'])

    def __post_init__(self):
        for option in fields(self):
            name, value, choices = option.name, getattr(self, option.name), option.metadata['choices']
            if name == 'ratio' or value is None and option.default is None:
                continue
            if choices and value not in choices:
                raise ValueError(f'{name} must be one of {choices}, got {value!r}')
            if not choices and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise TypeError(f'{name} must be a number, 0 or greater, got {value!r}')
            if not choices and not 0. <= value < float('inf'):
                raise ValueError(f'{name} must be 0 or greater, got {value}')
        ratio = self.create_ratio()  # which checks ratio, and whether it takes a strength
        if self.original_pass == 'none' and self._is_released:
            raise ValueError("ratio 'released' is of two passes: use original_pass 'no-grad' or 'grad', got 'none'")
        if self.original_pass == 'grad' and self.gamma == 0:
            raise ValueError("original_pass 'grad' has no effect with gamma 0 (labels have no gradient): use 'no-grad'")
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
        return create_ratio(self.ratio, self.strength)

    @property
    def resolved_pass(self) -> str:
        """The pass over the unmixed images that is made: 'none', 'no-grad' or 'grad'."""
        default = 'none' if not self._is_released else 'grad' if self.gamma > 0 else 'no-grad'
        return self.original_pass or default

    @property
    def unmixes(self) -> bool:
        """Whether the outputs for the unmixed images are unmixed from the mixed images' map."""
        return self.resolved_pass == 'none' and (self.gamma > 0 or bool(self.create_ratio().needs))

    @property
    def _is_released(self) -> bool:
        return self.ratio == 'released' or isinstance(self.ratio, Released)
