"""The paper's tables: their figures and settings, and our results beside them, as Markdown and as a plot."""
import statistics
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import yaml

from .figures import plt, save
from .markdown import interval, mean
from .results import ROOT

DEFINITION = yaml.safe_load((ROOT / 'benchmarks' / 'paper_tables.yaml').read_text())
TABLES: Dict[str, Dict[str, Dict[str, Dict[str, Any]]]] = DEFINITION['tables']


class Line(NamedTuple):
    """One line of a table: architecture and policy, arm, {seed: top-1}, gains over 'base', the paper's figure."""
    row: str
    policy: str
    arm: str
    tops: Dict[int, float]
    gains: List[float]
    paper: Optional[float]


def lines_of(rows: Dict[str, Dict], results: List[Dict]) -> List[Line]:
    """Return the lines that there are results for, in the order of the table, 'base' first.

    Args:
        rows: {architecture: {policy: {'base', 'sumix'}}}, the paper's figures, None where there are none.
        results: Results of runs.
    """
    lines = []
    for row, policies in rows.items():
        for policy, paper in policies.items():
            runs = [run for run in results if (run['row'], run['policy']) == (row, policy)]
            base = {run['seed']: run['top1'] for run in runs if run['arm'] == 'base'}
            for arm in sorted({run['arm'] for run in runs}, key=lambda arm: (arm != 'base', arm)):
                tops = {run['seed']: run['top1'] for run in runs if run['arm'] == arm}
                gains = [top - base[seed] for seed, top in tops.items() if seed in base] if arm != 'base' else []
                lines.append(Line(row, policy, arm, tops, gains, paper['base' if arm == 'base' else 'sumix']))
    return lines


def render(table: str, rows: Dict[str, Dict], results: List[Dict], picture: Optional[Path] = None) -> str:
    """Return a table as Markdown: ours and the paper's, base and with SUMix, the gain, and the gap to the paper.

    Args:
        table: Name of the table.
        rows: {architecture: {policy: {'base', 'sumix'}}}, the paper's figures, None where there are none.
        results: Results of runs.
        picture: Where to draw the same as a plot; None: nowhere.
    """
    lines = lines_of(rows, results)
    text = [
        '| model | policy | arm | top-1 %, mean ± 95 % interval (seeds) | gain, per seed | paper | gap to paper |',
        '|---|---|---|---|---|---|---|']
    for line in lines:
        values = list(line.tops.values())
        gap = None if line.paper is None else statistics.mean(values) - line.paper
        cells = [_mean(values), _mean(line.gains), _number(line.paper), _number(gap, '+')]
        text.append('| ' + ' | '.join([line.row, line.policy, line.arm, *cells]) + ' |')
    if picture is not None and lines:
        draw(table, lines, picture)
    return '\n'.join(text)


def _mean(values: List[float]) -> str:
    return f'{mean(values, 2, True)} ({len(values)})' if values else '-'


def _number(value: Optional[float], sign: str = '') -> str:
    return '-' if value is None else f'{value:{sign}.2f}'


def draw(table: str, lines: List[Line], picture: Path) -> None:
    """Draw means with their intervals, single seeds, and the paper's figures."""
    names = list(dict.fromkeys(f'{line.row} {line.policy}' for line in lines))
    arms = list(dict.fromkeys(line.arm for line in lines))
    figure, axis = plt.subplots(figsize=(7.5, 1.2 + 0.45 * len(names)))
    labelled = set()
    for line in lines:
        values = list(line.tops.values())
        colour = f'C{arms.index(line.arm)}'
        height = names.index(f'{line.row} {line.policy}') + 0.22 * (arms.index(line.arm) - (len(arms) - 1) / 2)
        axis.errorbar(
            statistics.mean(values), height, xerr=interval(values), fmt='o', color=colour, capsize=3,
            label=None if line.arm in labelled else line.arm)
        axis.plot(values, [height] * len(values), '|', color=colour, markersize=8)
        if line.paper is not None:
            axis.plot(line.paper, height, 'x', color=colour)
        labelled.add(line.arm)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel('top-1 %: mean and 95 % interval, | single seeds' + (
        ', x paper' if any(line.paper is not None for line in lines) else ''))
    axis.set_title(table)
    axis.grid(axis='x', alpha=0.3)
    axis.legend(fontsize=8)
    save(figure, picture, dpi=100)
