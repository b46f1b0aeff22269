"""The arms of the comparison, which differ in their labels or loss. Pure data: the page of evidence reads it too."""
from typing import Any, Dict, NamedTuple, Optional


class Arm(NamedTuple):
    """One way to train.

    Args:
        options: Options of SUMixTask.
        labeller: One of labellers.py, whose shares replace those by area before the task sees them.
        ratio: One of ratios.py, where `options` name none.
        fading: One of losses.FADINGS in place of the library's.
        criterion: One of losses.CRITERIA.
        extra: One of losses.EXTRAS, a loss that is added.
        prob: Probability that a sample is mixed.
        smoothing: Label smoothing.
        epochs: Factor of the schedule's length.
    """
    options: Dict[str, Any]
    labeller: Optional[str] = None
    ratio: Optional[str] = None
    fading: Optional[str] = None
    criterion: str = 'cross-entropy'
    extra: Optional[str] = None
    prob: float = 1.
    smoothing: float = 0.
    epochs: float = 1.

    @property
    def is_binary(self) -> bool:
        """Whether the model's probabilities are those of a sigmoid."""
        return self.criterion == 'binary cross-entropy'


_AREA = {'ratio': 'area', 'gamma': 0.}
_EVIDENCE = {'ratio': 'evidence', 'gamma': 0.}
_OWN = {'gamma': 0.}  # the arm names its ratio
_BOTH = {'ratio': 'evidence', 'gamma': 0., 'strength': 1.}


def _gamma(gamma: float, original_pass: str = 'no-grad', **options: Any) -> Arm:
    return Arm({'gamma': gamma, 'original_pass': original_pass, **options})


ARMS: Dict[str, Arm] = {
    'none': Arm(_AREA, prob=0.),
    'area': Arm(_AREA),
    'area, pass over originals': Arm(_AREA, labeller='pass'),
    'area, same time': Arm(_AREA, epochs=1.4),
    'similarity': Arm({'ratio': 'similarity', 'gamma': 0.}),
    'similarity, gamma 0.5': _gamma(0.5, ratio='similarity'),
    'feature': Arm({'ratio': 'feature', 'gamma': 0.}),
    'feature, gamma 0.5': _gamma(0.5, ratio='feature'),
    'evidence': Arm(_EVIDENCE),  # of the mixed image alone; those with a strength make a second pass
    'evidence, fade 0.6': Arm({**_EVIDENCE, 'fade': 0.6}),
    **{f'evidence {strength:g}': Arm({**_BOTH, 'strength': strength}) for strength in (0., 1., 2., 8.)},
    **{f'evidence 1, gamma {gamma:g}': _gamma(gamma, ratio='evidence', strength=1.) for gamma in (0.1, 0.5, 1.)},
    'evidence 1, gamma 0.5, logits': _gamma(0.5, ratio='evidence', strength=1., uncertainty='logits'),
    'released': _gamma(0.5, 'grad', ratio='released'),
    'snapmix': Arm(_AREA, labeller='snapmix'),
    'lumix': Arm(_AREA, labeller='lumix'),
    'true': Arm(_AREA, labeller='true'),
    'true, faded': Arm(_AREA, labeller='true, faded'),
    'evidence 1, faded': Arm(_AREA, labeller='evidence, faded'),
}
# controls: what else could be behind a gain
CONTROLS: Dict[str, Arm] = {
    'evidence, shuffled': Arm(_OWN, ratio='evidence, shuffled'),
    'evidence 1, shuffled': Arm(_OWN, ratio='evidence 1, shuffled'),
    **{f'area, smoothing {smoothing:g}': Arm(_AREA, smoothing=smoothing) for smoothing in (0.05, 0.1, 0.2)},
    'area, half unmixed': Arm(_AREA, prob=0.5),
    'evidence, half unmixed': Arm(_EVIDENCE, prob=0.5),
    'area, decoupled': Arm(_AREA, extra='decoupled'),
    'evidence, decoupled': Arm(_EVIDENCE, extra='decoupled'),
    'area, regmixup': Arm(_AREA, extra='regmixup'),
    'evidence, regmixup': Arm(_EVIDENCE, extra='regmixup'),
}
# of one pass each, for the settings of common models
ONE_PASS: Dict[str, Arm] = {
    'evidence of the mixture': Arm(_EVIDENCE),
    'true, one pass': Arm(_AREA, labeller='true, one pass'),
}
# other ideas of what a label can do
IDEAS: Dict[str, Arm] = {
    "evidence, soft augmentation's curve": Arm({**_EVIDENCE, 'fade': 1.}, fading='soft augmentation'),
    'evidence, by confidence': Arm(_OWN, ratio='evidence, by confidence'),
    'evidence, from area': Arm(_OWN, ratio='evidence, from area'),
    'area, BCE': Arm(_AREA, criterion='binary cross-entropy'),
    'evidence, BCE': Arm(_EVIDENCE, criterion='binary cross-entropy'),
    'true, BCE': Arm(_AREA, labeller='true', criterion='binary cross-entropy'),
    'visible, BCE': Arm(_AREA, labeller='visible', criterion='binary cross-entropy'),
}
ATTENTION: Dict[str, Arm] = {'transmix': Arm(_AREA, labeller='transmix')}  # for transformers alone
ALL_ARMS: Dict[str, Arm] = {**ARMS, **CONTROLS, **IDEAS, **ATTENTION, **ONE_PASS}
DEFAULT = 'evidence'  # the arm of SUMixTask's defaults
# run with many seeds, and shown beside every control
MAIN = ('none', 'area', DEFAULT, 'evidence 1', 'true')
# where less mixing is better, do corrected labels still help?
HALF_UNMIXED = ('area, half unmixed', 'evidence, half unmixed')
# run in every setting
EVERYWHERE = (
    'none', 'area', 'evidence', 'evidence, fade 0.6', 'feature', 'evidence 0', 'evidence 1', 'evidence 8', 'true')
