"""The arms of the comparison, which differ in their labels or loss. Pure data: the report reads it too.

Arm 'combined' is the library's default. Before it were 'unmixed', evidence in one pass, and 'evidence', of the mixed
image alone. Committed runs of the latter read it in the pass that is trained; a run made now does so in one of its own.
"""
from typing import Any, Dict, NamedTuple, Optional


class Arm(NamedTuple):
    """One way to train.

    Args:
        options: Options of SUMixTask.
        labeller: One of labellers.py, whose shares replace those by area before the task sees them.
        ratio: One of controls.RATIOS, where `options` name none.
        extra: One of controls.EXTRAS, a loss that is added.
        prob: Probability that a sample is mixed.
        smoothing: Label smoothing.
        epochs: Factor of the schedule's length.
        teacher: Arm whose model of the same setting and seed is the teacher, for distillation by logits.
    """
    options: Dict[str, Any]
    labeller: Optional[str] = None
    ratio: Optional[str] = None
    extra: Optional[str] = None
    prob: float = 1.
    smoothing: float = 0.
    epochs: float = 1.
    teacher: Optional[str] = None


_AREA = {'ratio': 'area', 'gamma': 0.}
_TWO_PASSES = {'original_pass': 'no-grad'}


def _alone(**changes: Any) -> Arm:
    return Arm(_AREA, labeller='evidence of the mixture', **changes)


def _gamma(gamma: float, original_pass: str = 'no-grad', **options: Any) -> Arm:
    return Arm({'gamma': gamma, 'original_pass': original_pass, **options})


ARMS: Dict[str, Arm] = {
    'none': Arm(_AREA, prob=0.),
    'area': Arm(_AREA),
    'area, pass over originals': Arm(_AREA, labeller='pass'),
    'area, same time': Arm(_AREA, epochs=1.4),
    'similarity': Arm({'ratio': 'similarity', **_TWO_PASSES}),
    'similarity, gamma 0.5': _gamma(0.5, ratio='similarity'),
    'feature': Arm({'ratio': 'feature', **_TWO_PASSES}),
    'feature, gamma 0.5': _gamma(0.5, ratio='feature'),
    'evidence': _alone(),  # those with a strength make a second pass
    'combined': Arm({}),
    'combined, strength 2': Arm({'strength': 2.}),
    'unmixed': Arm({'ratio': 'evidence'}),
    **{f'unmixed, strength {strength:g}': Arm({'ratio': 'evidence', 'strength': strength}) for strength in (4., 8.)},
    'unmixed, similarity': Arm({'ratio': 'similarity'}),
    'unmixed, similarity 4': Arm({'ratio': 'similarity', 'strength': 4.}),
    'unmixed, feature': Arm({'ratio': 'feature'}),
    'clean': Arm({'ratio': 'evidence', 'clean': 0.5}, epochs=0.5),  # a step passes twice as many images
    'paper': Arm({'ratio': 'similarity', 'gamma': 0.5, 'uncertainty': 'head', 'original_pass': 'grad'}),  # the preset
    **{f'evidence {strength:g}': Arm({'ratio': 'evidence', 'strength': strength, **_TWO_PASSES})
       for strength in (0., 1., 2., 8.)},
    **{f'evidence 1, gamma {gamma:g}': _gamma(gamma, ratio='evidence', strength=1.) for gamma in (0.1, 0.5, 1.)},
    'evidence 1, gamma 0.5, logits': _gamma(0.5, ratio='evidence', strength=1., uncertainty='logits'),
    'released': _gamma(0.5, 'grad', ratio='released'),
    'snapmix': Arm(_AREA, labeller='snapmix'),
    'lumix': Arm(_AREA, labeller='lumix'),
    'true': Arm(_AREA, labeller='true'),
}
# controls: what else could be behind a gain
CONTROLS: Dict[str, Arm] = {
    'combined, shuffled': Arm({}, ratio='combined, shuffled'),
    'unmixed, shuffled': Arm({}, ratio='shuffled'),
    'evidence 1, shuffled': Arm(_TWO_PASSES, ratio='shuffled'),
    **{f'area, smoothing {smoothing:g}': Arm(_AREA, smoothing=smoothing) for smoothing in (0.05, 0.1, 0.2)},
    'area, half unmixed': Arm(_AREA, prob=0.5),
    'evidence, half unmixed': _alone(prob=0.5),
    'unmixed, half unmixed': Arm({'ratio': 'evidence'}, prob=0.5),
    'combined, half unmixed': Arm({}, prob=0.5),
    'area, decoupled': Arm(_AREA, extra='decoupled'),
    'evidence, decoupled': _alone(extra='decoupled'),
    'area, regmixup': Arm(_AREA, extra='regmixup'),
    'evidence, regmixup': _alone(extra='regmixup'),
}
ATTENTION: Dict[str, Arm] = {'transmix': Arm(_AREA, labeller='transmix')}  # for transformers alone
ONE_PASS: Dict[str, Arm] = {'true, one pass': Arm(_AREA, labeller='true, one pass')}  # as the default's labels
DISTILLED: Dict[str, Arm] = {
    'distilled, area': Arm(_AREA, teacher='none'),
    'distilled': Arm({}, teacher='none'),
    'distilled, shares of the teacher': Arm({'teacher_shares': True}, teacher='none'),
    'distilled, true, one pass': Arm(_AREA, labeller='true, one pass', teacher='none'),
}
ALL_ARMS: Dict[str, Arm] = {**ARMS, **CONTROLS, **ATTENTION, **ONE_PASS, **DISTILLED}
# whose committed results stay, and which are not made anew: ideas that changed no default
EARLIER_CONTROLS = ('evidence, shuffled',)
EARLIER_IDEAS = (
    'true, faded', 'evidence 1, faded', 'evidence, fade 0.6', "evidence, soft augmentation's curve",
    'evidence, by confidence', 'evidence, from area')
BINARY = ('area, BCE', 'evidence, BCE', 'true, BCE', 'visible, BCE')  # whose probabilities are those of a sigmoid
EARLIER_DEFAULT = 'evidence'
# run with many seeds, and shown beside every control
MAIN = ('none', 'area', 'evidence', 'evidence 1', 'true')
# labels of one pass and of two, in mode 'pair'; those of most interest first, since a budget of time may end the runs
UNMIXING = (
    'none', 'area', 'combined', 'true, one pass', 'unmixed, similarity', 'unmixed', 'unmixed, feature', 'paper',
    'unmixed, similarity 4', 'combined, strength 2', 'unmixed, strength 8', 'clean', 'area, half unmixed',
    'combined, half unmixed', 'combined, shuffled', 'area, smoothing 0.1', 'evidence 1', 'unmixed, strength 4',
    'unmixed, half unmixed', 'unmixed, shuffled', 'evidence')
# in the settings that show where the default helps
FEW = ('none', 'area', 'combined', 'true, one pass')
ONE_EACH = (*FEW, 'unmixed, similarity', 'unmixed', 'unmixed, feature', 'unmixed, strength 8')  # labels of one pass
# where less mixing is better, do corrected labels still help?
HALF_UNMIXED = ('area, half unmixed', 'evidence, half unmixed')
# run in every setting
EVERYWHERE = (
    'none', 'area', 'evidence', 'feature', 'evidence 0', 'evidence 1', 'evidence 8', 'true')
