"""The paper's tables: their figures and settings, and our results beside them, as Markdown."""
import statistics
from typing import Any, Dict, List

import yaml

from ..common.markdown import mean, table
from ..common.results import ROOT

DEFINITION = yaml.safe_load((ROOT / 'benchmarks' / 'paper_tables.yaml').read_text())
TABLES: Dict[str, Dict[str, Dict[str, Dict[str, Any]]]] = DEFINITION['tables']
HEADER = ['model', 'policy', 'arm', 'top-1 %, mean ± 95 % interval (seeds)', 'gain, per seed', 'paper', 'gap to paper']


def render(rows: Dict[str, Dict], results: List[Dict]) -> str:
    """Return a table as Markdown: ours and the paper's, base and with SUMix, the gain, and the gap to the paper.

    `rows` are {architecture: {policy: {'base', 'sumix'}}}, the paper's figures or None; what has no result is left out.
    """
    lines = []
    for row, policy, paper in ((row, policy, paper) for row, own in rows.items() for policy, paper in own.items()):
        runs = [run for run in results if (run['row'], run['policy']) == (row, policy)]
        base = {run['seed']: run['top1'] for run in runs if run['arm'] == 'base'}
        for arm in sorted({run['arm'] for run in runs}, key=lambda arm: (arm != 'base', arm)):
            tops = {run['seed']: run['top1'] for run in runs if run['arm'] == arm}
            gains = [top - base[seed] for seed, top in tops.items() if arm != 'base' and seed in base]
            printed = paper['base' if arm == 'base' else 'sumix']
            gap = None if printed is None else statistics.mean(tops.values()) - printed
            lines.append([
                row, policy, arm, *(f'{mean(own, 2, True)} ({len(own)})' if own else '-' for own in (
                    [*tops.values()], gains)),
                '-' if printed is None else f'{printed:.2f}', '-' if gap is None else f'{gap:+.2f}'])
    return table(HEADER, lines)
