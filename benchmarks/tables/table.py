"""The paper's tables: their figures and settings, and our results beside them, as Markdown."""
import statistics
from typing import Any, Dict, List, NamedTuple, Optional

import yaml

from ..common.markdown import mean, table
from ..common.results import ROOT

DEFINITION = yaml.safe_load((ROOT / 'benchmarks' / 'paper_tables.yaml').read_text())
TABLES: Dict[str, Dict[str, Dict[str, Dict[str, Any]]]] = DEFINITION['tables']
HEADER = ['model', 'policy', 'arm', 'top-1 %, mean ± 95 % interval (seeds)', 'gain, per seed', 'paper', 'gap to paper']


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


def render(rows: Dict[str, Dict], results: List[Dict]) -> str:
    """Return a table as Markdown: ours and the paper's, base and with SUMix, the gain, and the gap to the paper.

    Args:
        rows: {architecture: {policy: {'base', 'sumix'}}}, the paper's figures, None where there are none.
        results: Results of runs.
    """
    lines = []
    for line in lines_of(rows, results):
        values = list(line.tops.values())
        gap = None if line.paper is None else statistics.mean(values) - line.paper
        lines.append([
            line.row, line.policy, line.arm, _mean(values), _mean(line.gains), _number(line.paper), _number(gap, '+')])
    return table(HEADER, lines)


def _mean(values: List[float]) -> str:
    return f'{mean(values, 2, True)} ({len(values)})' if values else '-'


def _number(value: Optional[float], sign: str = '') -> str:
    return '-' if value is None else f'{value:{sign}.2f}'
