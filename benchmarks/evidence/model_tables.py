"""Tables of the models that each label makes."""
import statistics
from pathlib import Path
from typing import Callable, List, Optional

from ..common.markdown import mean, table
from ..common.paper_tables import TABLES, render
from ..common.results import RESULTS, read_result, read_runs
from ..labels.arms import ARMS, DEFAULT
from .runs import Rows, by_arm, gains, settings_grid

DIGITS = {'top1': 1, 'nll': 3, 'ece': 1}  # of each score in the tables


def _each(gained: List[float]) -> str:
    return ', '.join(f'{gain:+.2f}' for gain in gained)


def _gains_as_text(gained: List[float]) -> str:
    return f'{mean(gained, 2, True)} ({_each(gained)})'


def _from_to(base: Rows, runs: Rows) -> List[str]:
    """Return each score of DIGITS as 'mean of base -> mean of runs'."""
    return [
        ' -> '.join(mean([run[score] for run in own], digits) for own in (base, runs))
        for score, digits in DIGITS.items()]


def comparison_table(setting: str) -> str:
    """Return the arms of one setting with their scores, and their gain over CutMix's labels at each seed."""
    arms, lines = by_arm(read_result('comparison')['runs'], setting), []
    for arm, runs in arms.items():
        gained = gains(runs, arms['area'])
        lines.append([
            arm, mean([run['top1'] for run in runs], 1, True),
            '-' if arm == 'area' else _gains_as_text(gained),
            mean([run['nll'] for run in runs], 3), mean([run['ece'] for run in runs], 1)])
    return table(['label', 'top-1 %', 'gain over area (each seed)', 'NLL', 'ECE %'], lines)


def table_by_setting(cell: Callable[[Rows, Rows], str]) -> str:
    """Return a table of the arms that several settings have: cell(its runs, area's runs), '-' where there are none."""
    grid = settings_grid()
    arms = [arm for arm in ARMS if sum(arm in own for own in grid.values()) > 1]
    return table(['label', *grid], [
        [arm, *(cell(own[arm], own['area']) if arm in own else '-' for own in grid.values())] for arm in arms])


def settings_table() -> str:
    """Return top-1, NLL and ECE of each label in each setting."""
    return table_by_setting(lambda runs, base: ' / '.join(
        mean([run[score] for run in runs], digits) for score, digits in DIGITS.items()))


def gains_table() -> str:
    """Return each label's gain in top-1 over CutMix's labels in each setting: mean, and the worst seed."""
    def cell(runs, base):
        gained = gains(runs, base)
        return '0' if runs is base else f'{statistics.mean(gained):+.2f} (worst {min(gained):+.2f})'

    return table_by_setting(cell)


def seeds_table() -> str:
    """Return the gain over CutMix at each of more seeds, with its interval, by setting and label."""
    result, lines = read_result('seeds'), []
    for setting in result['settings']:
        arms = by_arm(result['runs'], setting)
        for arm, runs in arms.items():
            if arm != 'area':
                _, *scores = _from_to(arms['area'], runs)
                lines.append([setting, arm, _gains_as_text(gains(runs, arms['area'])), *scores])
    return table(['setting', 'label', 'gain in top-1 over area (each seed)', 'NLL', 'ECE %'], lines)


def models_in_short() -> str:
    """Return the scores of models trained with the default label, by setting, beside CutMix's."""
    lines = []
    for setting, arms in settings_grid().items():
        if DEFAULT in arms:
            gained = gains(arms[DEFAULT], arms['area'])
            top1, *scores = _from_to(arms['area'], arms[DEFAULT])
            lines.append([f'`{setting}`', top1, _each(gained), *scores])
    return table(['setting', 'top-1 %', 'gain (each seed)', 'NLL', 'ECE %'], lines)


def paper_table(name: str, picture: Optional[Path] = None) -> str:
    """Return one of the tables of benchmarks.tables, and draw it if asked."""
    results = [result for result in read_runs(RESULTS / 'tables') if result['table'] == name]
    return render(name, TABLES[name], results, picture)


def robustness_table() -> str:
    """Return the robustness of each arm, mean over its seeds."""
    rows, lines = read_result('robustness')['rows'], []
    strengths, dropped = ('1.0', '2.0', '4.0'), ('0.2', '0.5', '0.7')
    for name in dict.fromkeys(row['name'] for row in rows):
        own = [row for row in rows if row['name'] == name]
        corrupted = [value for row in own for by_severity in row['corruptions'].values()
                     for value in by_severity.values()]
        lines.append([
            name, *(mean([row[score] for row in own], digits) for score, digits in DIGITS.items()),
            ' / '.join(mean([row['fgsm'][strength] for row in own], 1) for strength in strengths),
            ' / '.join(mean([row['occlusion'][share] for row in own], 1) for share in dropped), mean(corrupted, 1)])
    return table([
        'label', 'top-1 %', 'NLL', 'ECE %', 'FGSM 1, 2, 4 / 255', '20, 50, 70 % occluded', 'corruptions, mean'], lines)


def corruptions_table() -> str:
    """Return top-1 under each corruption, mean over severities and seeds."""
    rows = read_result('robustness')['rows']
    names = list(dict.fromkeys(row['name'] for row in rows))
    kinds = list(rows[0]['corruptions'])
    lines = [[kind] + [
        mean([v for row in rows if row['name'] == name for v in row['corruptions'][kind].values()], 1)
        for name in names] for kind in kinds]
    return table(['top-1 % under', *names], lines)
