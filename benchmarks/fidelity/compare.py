"""Scores of each label against the truth."""
import itertools
from typing import Any, Dict, List, Optional, Tuple

import torch

from timm_sumix.correction import RATIOS, create_ratio

from ..common.scores import agreement
from ..labels.truth import comparable
from .probe import Answers

STRENGTHS = {'combined': (4.,), 'similarity': (2.,), 'feature': (8.,), 'evidence': (0., 1.)}
Key = Tuple[str, Optional[float], int]  # label, strength, passes


def usable(batches: List[Answers]) -> torch.Tensor:
    """Return which samples of all batches are compared [N] bool."""
    return torch.cat([comparable(batch.target, batch.true) for batch in batches])


def compare(batches: List[Answers], shares: Dict[str, List[torch.Tensor]]) -> List[Dict[str, Any]]:
    """Return a row of scores for each ratio, in one pass and in two, and for each labeller, from what ask() returns."""
    labels: Dict[Key, List[torch.Tensor]] = {}
    for name in RATIOS:
        for value, passes in itertools.product(STRENGTHS.get(name, (None,)), _passes(name)):
            ratio = create_ratio(name, value)
            labels[name, value, passes] = [
                ratio(b.mixed, b.unmixed if passes == 1 else b.original, b.target) for b in batches]
    labels.update({(name, None, 0): parts for name, parts in shares.items()})
    use, true = usable(batches), torch.cat([batch.true for batch in batches])
    return [
        {'label': name, 'strength': strength, 'passes': passes, **agreement(torch.cat(parts)[use], true[use])}
        for (name, strength, passes), parts in labels.items()]


def _passes(name: str) -> Tuple[int, ...]:
    """Return in how many passes a ratio can be had."""
    return (1,) if not create_ratio(name).needs else (2,) if name == 'released' else (1, 2)
