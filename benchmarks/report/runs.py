"""The runs of the comparison, by setting and arm, and what they gain over CutMix."""
from typing import Any, Collection, Dict, List, Optional

from ..common.results import read_result
from ..labels.arms import ALL_ARMS

Rows = List[Dict[str, Any]]


def by_arm(runs: Rows, setting: str, order: Collection[str] = ALL_ARMS) -> Dict[str, Rows]:
    """Return {arm: its runs, by seed} of a setting, in the given order of the arms; arms without runs are left out."""
    own = sorted((run for run in runs if run['setting'] == setting), key=lambda run: run['seed'])
    found = {arm: [run for run in own if run['arm'] == arm] for arm in order}
    return {arm: own for arm, own in found.items() if own}


def score_of(run: Dict[str, Any], score: str, other: Optional[str] = None) -> float:
    """Return a score of a run on its setting's own test set, or on a further one by its name."""
    return (run if other is None else run['others'][other])[score]


def gains(runs: Rows, base: Rows, score: str = 'top1', other: Optional[str] = None) -> List[float]:
    """Return the change of a score at each seed that both have.

    Args:
        runs: Runs of an arm.
        base: Runs of CutMix.
        score: 'top1', 'nll' or 'ece'.
        other: Name of a further test set; None: the setting's own.
    """
    values = {run['seed']: score_of(run, score, other) for run in base}
    return [score_of(run, score, other) - values[run['seed']] for run in runs if run['seed'] in values]


def grid(name: str, order: Collection[str] = ALL_ARMS) -> Dict[str, Dict[str, Rows]]:
    """Return {setting: {arm: its runs}} of the settings that a committed result has runs of, as by_arm does."""
    result = read_result(name)
    found = {setting: by_arm(result['runs'], setting, order) for setting in result['settings']}
    return {setting: arms for setting, arms in found.items() if arms}


def test_sets(arms: Dict[str, Rows]) -> List[Optional[str]]:
    """Return the test sets of a setting's runs: None for its own, then the names of further ones."""
    return [None, *next(iter(arms.values()))[0].get('others', {})]


def test_set_name(setting: str, other: Optional[str]) -> str:
    """Return how tables name a test set."""
    return setting if other is None else f'{setting}, {other}'
