"""The formula's weights and the power of the evidence, each label's squared error over that of the area.

Images are Tiny-ImageNet's, photographed objects of several sizes, and canvases, of which each size has its own network.
"""
from typing import Any, Dict, List, NamedTuple, Tuple

import torch

from timm_sumix.correction.evidence import POWER
from timm_sumix.correction.formula import WEIGHTS, Formula

from .compare import usable
from .kinds import TINY
from .probe import Answers

PHOTOGRAPHS = ('80', '112', '160', '224', '112, anywhere')  # of kinds.PHOTOGRAPHS
DRAWN = {f'drawn {size}': size for size in (10, 14, 22, 32)}  # pixels a side of an object on a canvas of 32
KINDS = (TINY, *PHOTOGRAPHS, *DRAWN)

GRID_W, GRID_S, GRID_K = (0., 0.25, 0.5, 0.75, 1.), (0., 0.5, 1., 2., 4.), (0., 1.)
POWERS = (1., 1.5, 2., 3.)  # beside that of the library


class Label(NamedTuple):
    """One label: weights of the formula, the evidence's power, and 1 or 2 passes."""
    weights: Tuple[float, float, float]
    power: float = POWER
    passes: int = 1


def labels() -> List[Label]:
    """Return the labels that are compared: names first, then the grid, powers, and two passes."""
    grid = [(w, s, k) for w in GRID_W for s in GRID_S for k in GRID_K]
    powers = [Label((w, s, 0.), power) for power in POWERS for w in GRID_W if w > 0 for s in (0., 1.)]
    two = [Label(weights, passes=2) for weights in (*WEIGHTS.values(), (1., 0., 0.)) if any(weights)]
    return list(dict.fromkeys([*map(Label, (*WEIGHTS.values(), *grid)), *powers, *two]))


def score(batches: List[Answers]) -> Dict[str, Any]:
    """Return 'pairs', 'area', the area's mean squared error, and 'over_area', each label's over it, as by labels()."""
    use = usable(batches)
    true = torch.cat([batch.true for batch in batches])[use]

    def error(label: Label) -> float:
        ratio = Formula(*label.weights)
        shares = [ratio(batch.mixed, _unmixed(batch, label), batch.target) for batch in batches]
        return (torch.cat(shares)[use] - true).square().mean().item()

    area = error(Label((0., 0., 0.)))
    return {'pairs': len(true), 'area': area, 'over_area': [error(label) / area for label in labels()]}


def _unmixed(batch: Answers, label: Label):
    output = batch.unmixed if label.passes == 1 else batch.original
    return output._replace(evidence=output.evidence ** (label.power / POWER))


def combine(results: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Return the scores of all kinds, a row for each label: {'images': {kind: ...}, 'rows': [...]}."""
    return {
        'images': {own['images']: {'pairs': own['pairs'], 'area': own['area']} for own in results},
        'rows': [
            {'weights': '{:g} {:g} {:g}'.format(*label.weights), 'power': label.power, 'passes': label.passes,
             'over_area': {own['images']: round(own['over_area'][i], 4) for own in results}}
            for i, label in enumerate(labels())]}
