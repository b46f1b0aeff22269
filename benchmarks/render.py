"""Tables of results as Markdown, and as a plot."""
import statistics
from pathlib import Path
from typing import Dict, List, Optional

import matplotlib
from scipy.stats import t

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402


def interval(values: List[float]) -> Optional[float]:
    """Return half the width of the 95 % confidence interval of a mean (Student's t), None for fewer than two values."""
    if len(values) < 2:
        return None
    return float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5


def _mean(values: List[float]) -> str:
    if not values:
        return '-'
    half = interval(values)
    return f'{statistics.mean(values):.2f}' + ('' if half is None else f' ± {half:.2f}') + f' ({len(values)})'


def _number(value: Optional[float], sign: str = '') -> str:
    return '-' if value is None else f'{value:{sign}.2f}'


def render(table: str, rows: Dict[str, Dict], results: List[Dict], picture: Optional[Path] = None) -> str:
    """Return a table as Markdown: ours and the paper's, base and with SUMix, the gain, and the gap to the paper.

    Args:
        table: Name of the table.
        rows: {architecture: {policy: {'base', 'sumix'}}}, the paper's figures, None where there are none.
        results: Results of runs.
        picture: Where to draw the same as a plot; None: nowhere.
    """
    lines = [
        '| model | policy | arm | top-1 %, mean ± 95 % interval (seeds) | gain, per seed | paper | gap to paper |',
        '|---|---|---|---|---|---|---|']
    points = []
    for row, policies in rows.items():
        for policy, paper in policies.items():
            runs = [run for run in results if (run['row'], run['policy']) == (row, policy)]
            arms = sorted({run['arm'] for run in runs}, key=lambda arm: (arm != 'base', arm))
            base = {run['seed']: run['top1'] for run in runs if run['arm'] == 'base'}
            for arm in arms:
                tops = {run['seed']: run['top1'] for run in runs if run['arm'] == arm}
                gains = [top - base[seed] for seed, top in tops.items() if seed in base] if arm != 'base' else []
                printed = paper['base' if arm == 'base' else 'sumix']
                values = list(tops.values())
                gap = statistics.mean(values) - printed if printed is not None else None
                lines.append(
                    f'| {row} | {policy} | {arm} | {_mean(values)} | {_mean(gains)} | {_number(printed)} | '
                    f'{_number(gap, "+")} |')
                points.append((f'{row} {policy}', arm, values, printed))
    if picture is not None and points:
        draw(table, points, picture)
    return '\n'.join(lines)


def draw(table: str, points: List, picture: Path) -> None:
    """Draw means with their intervals, single seeds, and the paper's figures."""
    names = list(dict.fromkeys(name for name, *_ in points))
    arms = list(dict.fromkeys(arm for _, arm, *_ in points))
    figure, axis = plt.subplots(figsize=(7.5, 1.2 + 0.45 * len(names)))
    labelled = set()
    for name, arm, values, printed in points:
        colour = f'C{arms.index(arm)}'
        height = names.index(name) + 0.22 * (arms.index(arm) - (len(arms) - 1) / 2)
        axis.errorbar(
            statistics.mean(values), height, xerr=interval(values), fmt='o', color=colour, capsize=3,
            label=None if arm in labelled else arm)
        axis.plot(values, [height] * len(values), '|', color=colour, markersize=8)
        if printed is not None:
            axis.plot(printed, height, 'x', color=colour)
        labelled.add(arm)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel('top-1 %: mean and 95 % interval, | single seeds' + (
        ', x paper' if any(printed is not None for *_, printed in points) else ''))
    axis.set_title(table)
    axis.grid(axis='x', alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(picture, dpi=100)
    plt.close(figure)
