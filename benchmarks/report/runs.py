"""The runs of the comparison, by setting and arm: their scores as text, and what they gain over CutMix."""
from typing import Any, Collection, Dict, List, Tuple

from ..common.markdown import mean
from ..common.results import read_result
from ..labels.arms import ALL_ARMS

Rows = List[Dict[str, Any]]
DIGITS = {'top1': 1, 'nll': 3, 'ece': 1}  # of each score in the tables


def grid(name: str, order: Collection[str] = ALL_ARMS) -> Dict[str, Dict[str, Rows]]:
    """Return {setting: {arm: its runs, by seed}} of what a committed result has runs of, in the order of the arms."""
    result = read_result(name)
    runs = sorted(result['runs'], key=lambda run: run['seed'])
    found: Dict[str, Dict[str, Rows]] = {setting: {} for setting in result['settings']}
    for arm in order:
        for run in runs:
            if run['arm'] == arm:
                found[run['setting']].setdefault(arm, []).append(run)
    return {setting: arms for setting, arms in found.items() if arms}


def gains(runs: Rows, base: Rows, score: str = 'top1') -> List[float]:
    """Return the change of a score ('top1', 'nll' or 'ece') of an arm's runs over CutMix's, at the seeds of both."""
    values = {run['seed']: run[score] for run in base}
    return [run[score] - values[run['seed']] for run in runs if run['seed'] in values]


def scores(runs: Rows) -> str:
    """Return the means of an arm's 'top-1 / NLL / ECE'."""
    return ' / '.join(mean([run[score] for run in runs], digits) for score, digits in DIGITS.items())


def at_common_seeds(arms: Dict[str, Rows]) -> Tuple[Dict[str, Rows], str]:
    """Return the runs at the seeds that all arms have, and how many seeds these are, for a table's header."""
    seeds = set.intersection(*({run['seed'] for run in runs} for runs in arms.values()))
    same = {arm: [run for run in runs if run['seed'] in seeds] for arm, runs in arms.items()}
    return same, f'{len(seeds)} seed{"s" * (len(seeds) != 1)}'


def changes(runs: Rows, base: Rows) -> List[str]:
    """Return the changes of top-1 and NLL over CutMix with half of their 95 % interval; '-' without a common seed."""
    if runs is base or not gains(runs, base):
        return ['-', '-']
    return [mean(gains(runs, base, score), digits, True, '+') for score, digits in (('top1', 2), ('nll', 3))]
