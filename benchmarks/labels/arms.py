"""The arms of the comparison, which differ in their labels alone. Pure data: the page of evidence reads it too."""
from typing import Any, Dict


def _arm(ratio: str, gamma: float = 0., **kwargs: Any) -> Dict[str, Any]:
    original_pass = {'original_pass': 'no-grad'} if gamma else {}
    return {'ratio': ratio, 'gamma': gamma, **original_pass, **kwargs}


# arm: options of SUMixTask; besides, 'labeller', one of labellers.py, and 'epochs', a factor of the schedule's length
ARMS: Dict[str, Dict[str, Any]] = {
    'none': _arm('area'),
    'area': _arm('area'),
    'area, pass over originals': _arm('area', labeller='pass'),
    'area, same time': _arm('area', epochs=1.4),
    'similarity': _arm('similarity'),
    'similarity, gamma 0.5': _arm('similarity', 0.5),
    'feature': _arm('feature'),
    'feature, gamma 0.5': _arm('feature', 0.5),
    'evidence': _arm('evidence'),  # of the mixed image alone; those with a strength make a second pass
    'evidence, fade 0.6': _arm('evidence', fade=0.6),
    'evidence 0': _arm('evidence', strength=0.),
    'evidence 1': _arm('evidence', strength=1.),
    'evidence 2': _arm('evidence', strength=2.),
    'evidence 8': _arm('evidence', strength=8.),
    'evidence 1, gamma 0.1': _arm('evidence', 0.1, strength=1.),
    'evidence 1, gamma 0.5': _arm('evidence', 0.5, strength=1.),
    'evidence 1, gamma 1': _arm('evidence', 1., strength=1.),
    'evidence 1, gamma 0.5, logits': _arm('evidence', 0.5, strength=1., uncertainty='logits'),
    'released': _arm('released', 0.5, original_pass='grad'),
    'snapmix': _arm('area', labeller='snapmix'),
    'lumix': _arm('area', labeller='lumix'),
    'true': _arm('area', labeller='true'),
    'true, faded': _arm('area', labeller='true, faded'),
    'evidence 1, faded': _arm('area', labeller='evidence, faded'),
}
DEFAULT = 'evidence'  # the arm of SUMixTask's defaults
# run in every setting
EVERYWHERE = (
    'none', 'area', 'evidence', 'evidence, fade 0.6', 'feature', 'evidence 0', 'evidence 1', 'evidence 8', 'true')
