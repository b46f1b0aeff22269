"""The arms of the comparison, which differ in their labels or loss. Pure data: the report reads it too.

An arm whose labels are a ratio of the library has that ratio's name, and a number behind it is the strength. An arm
named by three numbers has them as weights (w, s, k) of the library's formula. All make one pass but those that say so.
"""
from typing import Any, Dict, NamedTuple, Optional, Sequence


class Arm(NamedTuple):
    """One way to train."""
    options: Dict[str, Any]  # options of SUMixTask
    labeller: Optional[str] = None  # one of labellers.py, whose shares replace those by area before the task sees them
    ratio: Optional[str] = None  # one of controls.RATIOS, where `options` name none
    prob: float = 1.  # probability that a sample is mixed
    smoothing: float = 0.  # label smoothing
    # arm whose model of the same setting and seed is the teacher, for distillation by logits
    teacher: Optional[str] = None


DEFAULT = 'similarity'  # the library's; a test compares
_AREA = {'ratio': 'area'}
WEIGHTS = tuple((w, s, 0.) for w in (0., 0.5, 1.) for s in (0.5, 1., 2., 3., 4.))  # the sweep of strengths


def weights_name(weights: Sequence[float]) -> str:
    """Return the name of the arm whose labels are of these weights."""
    return _NAMES.get(tuple(weights), '{:g} {:g} {:g}'.format(*weights))


_NAMES = {
    (0., 2., 0.): 'similarity', (0., 4., 0.): 'similarity 4', (1., 4., 0.): 'combined', (1., 2., 0.): 'combined 2'}
ARMS: Dict[str, Arm] = {
    'none': Arm(_AREA, prob=0.),
    'area': Arm(_AREA),
    'combined': Arm({'ratio': 'combined'}),
    'combined 2': Arm({'ratio': 'combined', 'strength': 2.}),
    'similarity': Arm({'ratio': 'similarity'}),
    'similarity 4': Arm({'ratio': 'similarity', 'strength': 4.}),
    'feature': Arm({'ratio': 'feature'}),
    'evidence': Arm({'ratio': 'evidence'}),
    **{f'evidence {strength:g}': Arm({'ratio': 'evidence', 'strength': strength}) for strength in (4., 8.)},
    'visible': Arm({'ratio': 'visible'}),
    'evidence, two passes': Arm({'ratio': 'evidence', 'original_pass': 'no-grad'}),
    'evidence of the mixture': Arm(_AREA, labeller='evidence of the mixture'),
    'paper': Arm({'ratio': 'similarity', 'gamma': 0.5, 'uncertainty': 'head', 'original_pass': 'grad'}),  # the preset
    'true': Arm(_AREA, labeller='true'),
    'transmix': Arm(_AREA, labeller='transmix'),  # for transformers alone
}
ARMS.update({
    weights_name(weights): Arm({'ratio': weights}) for weights in WEIGHTS if weights_name(weights) not in ARMS})
# controls: what else could be behind a gain
CONTROLS: Dict[str, Arm] = {
    **{f'{name}, shuffled': Arm({}, ratio=f'{name}, shuffled') for name in ('combined', 'similarity', 'evidence')},
    'true, shuffled': Arm(_AREA, labeller='true, shuffled'),
    'similarity, growing': Arm({}, ratio='similarity, growing'),
    'area, smoothing 0.1': Arm(_AREA, smoothing=0.1),
    'similarity, smoothing 0.1': Arm({'ratio': 'similarity'}, smoothing=0.1),
    **{f'{name}, half mixed': Arm({'ratio': name}, prob=0.5)
       for name in ('area', 'combined', 'similarity', 'evidence')},
}
DISTILLED: Dict[str, Arm] = {
    'distilled, area': Arm(_AREA, teacher='none'),
    'distilled, combined': Arm({'ratio': 'combined'}, teacher='none'),
    'distilled, true': Arm(_AREA, labeller='true', teacher='none'),
}
ALL_ARMS: Dict[str, Arm] = {**ARMS, **CONTROLS, **DISTILLED}
# labels of one pass and of two; those of most interest first, since a budget of time may end the runs
UNMIXING = (
    'none', 'area', 'combined', 'true', 'similarity', 'evidence', 'feature', 'paper', 'similarity 4', 'combined 2',
    'evidence 8', 'area, half mixed', 'combined, half mixed', 'combined, shuffled', 'area, smoothing 0.1',
    'evidence, two passes', 'evidence 4', 'evidence, half mixed', 'evidence, shuffled', 'evidence of the mixture')
ONE_EACH = ('none', 'area', 'combined', 'true', 'similarity', 'evidence', 'feature', 'evidence 8')
