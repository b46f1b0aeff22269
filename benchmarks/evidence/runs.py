"""The runs of the comparison, by setting and arm."""
from typing import Any, Dict, List

from ..common.results import read_result
from ..labels.arms import ARMS

Rows = List[Dict[str, Any]]


def by_arm(runs: Rows, setting: str) -> Dict[str, Rows]:
    """Return {arm: its runs} of a setting, in the order of ARMS, of those that have the same seeds as CutMix."""
    own = sorted((run for run in runs if run['setting'] == setting), key=lambda run: run['seed'])
    found = {arm: [run for run in own if run['arm'] == arm] for arm in ARMS}
    seeds = {run['seed'] for run in found['area']}
    return {arm: runs for arm, runs in found.items() if runs and {run['seed'] for run in runs} == seeds}


def gains(runs: Rows, base: Rows) -> List[float]:
    """Return the gain in top-1 at each seed."""
    tops = {run['seed']: run['top1'] for run in base}
    return [run['top1'] - tops[run['seed']] for run in runs]


def settings_grid() -> Dict[str, Dict[str, Rows]]:
    """Return {setting: {arm: its runs}} of the settings that there are runs of."""
    result = read_result('comparison')
    grid = {name: by_arm(result['runs'], name) for name in result['settings']}
    return {name: arms for name, arms in grid.items() if arms}
