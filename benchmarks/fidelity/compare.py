"""Scores of each label against the truth."""
from typing import Any, Dict, List

import torch

from timm_sumix.correction import RATIOS, create_ratio
from timm_sumix.correction.ratios import Evidence, EvidenceOfBoth

from ..common.scores import agreement
from ..labels.truth import comparable
from .probe import Answers

# strengths of each ratio; evidence without one is that of the mixed image alone
CHOSEN = {'similarity': (2.,), 'feature': (8.,), 'evidence': (None, 0., 1., 8.)}
SWEEPS = {
    'similarity': (0.5, 1., 2., 3., 4., 8.), 'feature': (1., 2., 4., 8., 16.), 'evidence': (None, 0., 1., 2., 4., 8.)}
POWERS = (1, 2, 3, 4, 6)


def usable(batches: List[Answers]) -> torch.Tensor:
    """Return which samples of all batches are compared [N] bool."""
    return torch.cat([comparable(batch.target, batch.true) for batch in batches])


def compare(
        batches: List[Answers],
        shares: Dict[str, List[torch.Tensor]],
        sweep: bool = False,
) -> List[Dict[str, Any]]:
    """Return a row of scores for each ratio and each labeller.

    Args:
        batches: Answers of a probe model.
        shares: {name of a labeller: its shares of each batch}.
        sweep: Score each ratio at many strengths.
    """
    strengths = SWEEPS if sweep else CHOSEN
    labels = {
        (name, value): [
            create_ratio(name, value, with_original=value is not None)(b.mixed, b.original, b.target) for b in batches]
        for name in RATIOS for value in strengths.get(name, (None,))}
    labels.update({(name, None): parts for name, parts in shares.items()})
    return _score(batches, labels)


def compare_powers(batches: List[Answers], power: float) -> List[Dict[str, Any]]:
    """Return a row of scores of ratio 'evidence' at each strength, for one power of the evidence."""
    ratios = {
        strength: Evidence(power) if strength is None else EvidenceOfBoth(strength, power)
        for strength in CHOSEN['evidence']}
    return _score(batches, {
        ('evidence', strength): [ratio(b.mixed, b.original, b.target) for b in batches]
        for strength, ratio in ratios.items()})


def _score(batches: List[Answers], labels: Dict[Any, List[torch.Tensor]]) -> List[Dict[str, Any]]:
    use, true = usable(batches), torch.cat([batch.true for batch in batches])
    return [
        {'label': name, 'strength': strength, **agreement(torch.cat(parts)[use], true[use])}
        for (name, strength), parts in labels.items()]
