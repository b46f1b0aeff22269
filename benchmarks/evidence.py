"""Write tables and plots of docs/evidence.md and README.md anew from committed results: python -m benchmarks.evidence

Between the marks <!-- NAME --> and <!-- end --> a page holds what this module makes of benchmarks/results; the rest of
it is written by hand.
"""
import json
import re
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import matplotlib

from .cells import TABLES
from .comparison import ARMS
from .record import ROOT
from .render import interval, render
from .robustness import draw as draw_robustness
from .tables import read_results

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

DOCS = ROOT / 'docs'
PAGES = (DOCS / 'evidence.md', ROOT / 'README.md')
RESULTS = ROOT / 'benchmarks' / 'results'
DIGITS = {'top1': 1, 'nll': 3, 'ece': 1}  # of each score in the tables
TRAINED_TABLES = ('placed_fashion', 'fashion_mnist')
Rows = List[Dict[str, Any]]


def read(name: str) -> Dict[str, Any]:
    """Return a committed result."""
    return json.loads((RESULTS / f'{name}.json').read_text())


def table(header: List[str], lines: List[List[str]]) -> str:
    """Return a Markdown table."""
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in [header, ['---'] * len(header), *lines])


def made_by(name: str) -> str:
    """Return a line that says how a result was made."""
    run = read(name)
    versions = ', '.join(f'{package} {version}' for package, version in run['versions'].items())
    path = f'benchmarks/results/{name}.json'
    commands = ', '.join(f'`{command}`' for command in _as_list(run['command']))
    seeds, commits = (', '.join(map(str, _as_list(run[key]))) for key in ('seed', 'commit'))
    return f'Made by {commands}, seeds {seeds}, commit {commits}, {versions}, {run["device"]}: [{path}](../{path})'


def _as_list(value: Any) -> List[Any]:
    return value if isinstance(value, list) else [value]


def mean(values: List[float], digits: int, spread: bool = False) -> str:
    """Return a mean, with half the width of its 95 % interval if asked."""
    half = interval(values) if spread else None
    return f'{statistics.mean(values):.{digits}f}' + ('' if half is None else f' ± {half:.{digits}f}')


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


def comparison_table(setting: str) -> str:
    """Return the arms of one setting with their scores, and their gain over CutMix's labels at each seed."""
    arms, lines = by_arm(read('comparison')['runs'], setting), []
    for arm, runs in arms.items():
        gained = gains(runs, arms['area'])
        lines.append([
            arm, mean([run['top1'] for run in runs], 1, True),
            '-' if arm == 'area' else mean(gained, 2, True) + ' (' + ', '.join(f'{g:+.2f}' for g in gained) + ')',
            mean([run['nll'] for run in runs], 3), mean([run['ece'] for run in runs], 1)])
    return table(['label', 'top-1 %', 'gain over area (each seed)', 'NLL', 'ECE %'], lines)


def settings_grid() -> Dict[str, Dict[str, Rows]]:
    """Return {setting: {arm: its runs}} of the settings that there are runs of."""
    result = read('comparison')
    grid = {name: by_arm(result['runs'], name) for name in result['settings']}
    return {name: arms for name, arms in grid.items() if arms}


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


def label_name(row: Dict[str, Any]) -> str:
    """Return a label's name with its strength."""
    return row['label'] if row['strength'] is None else f'{row["label"]} {row["strength"]:g}'


def fidelity_table(
        part: str,
        column: str,
        keep: Optional[Callable[[Dict[str, Any]], bool]] = None,
        name: str = 'fidelity',
) -> str:
    """Return Spearman / mean absolute error / calibration, labels down and the values of a column across."""
    rows = [row for row in read(name)['rows'] if row['part'] == part and (keep is None or keep(row))]
    columns = list(dict.fromkeys(row[column] for row in rows))
    if all(isinstance(value, (int, float)) or value.startswith('share ') for value in columns):
        columns.sort(key=lambda value: float(str(value).replace('share ', '')))
    lines = []
    for label in dict.fromkeys(label_name(row) for row in rows):
        cells = []
        for value in columns:
            own = [row for row in rows if label_name(row) == label and row[column] == value]
            cells.append(' / '.join(
                mean([row[score] for row in own], digits)
                for score, digits in (('spearman', 3), ('mae', 3), ('calibration', 3))) if own else '-')
        lines.append([label, *cells])
    return table(['label', *(f'{column} {value}' if isinstance(value, int) else value for value in columns)], lines)


def judges_table() -> str:
    """Return the judges' top-1, and how often neither object is visible."""
    rows = [row for row in read('fidelity')['rows'] if row['part'] == 'scene']
    found = {}
    for row in rows:
        found.setdefault(row['scene'], {})[row['seed']] = row
    return table(['scene', 'top-1 % of the judge', 'pairs', 'neither object visible, % of mixed images'], [
        [scene, mean([row['top1'] for row in own.values()], 1), str(sum(row['pairs'] for row in own.values())),
         mean([100 * row['neither_visible'] for row in own.values()], 2)] for scene, own in found.items()])


def labels_in_short() -> str:
    """Return the labels of most interest, on objects of a fifth of the canvas."""
    names = {
        'area': 'area (CutMix)', 'similarity 2': "the paper's formula, per sample (`similarity`)",
        'released': "as the authors' code computes it (`released`)",
        'snapmix': 'SnapMix-style class activation map, re-derived', 'evidence 1': '`evidence`, the default'}
    rows = [row for row in read('fidelity')['rows'] if (row['part'], row['scene']) == ('scene', 'share 0.2')]
    return table(['label', 'Spearman with the true share', 'mean absolute error'], [
        [text, *(mean([row[score] for row in rows if label_name(row) == name], 3) for score in ('spearman', 'mae'))]
        for name, text in names.items()])


def models_in_short() -> str:
    """Return what the default label does to models, by setting, beside CutMix."""
    lines = []
    for setting, arms in settings_grid().items():
        if 'evidence 1' in arms:
            gained = gains(arms['evidence 1'], arms['area'])
            scores = [
                ' -> '.join(mean([run[score] for run in arms[arm]], digits) for arm in ('area', 'evidence 1'))
                for score, digits in DIGITS.items()]
            lines.append([f'`{setting}`', scores[0], ', '.join(f'{gain:+.2f}' for gain in gained), *scores[1:]])
    return table(['setting', 'top-1 %', 'gain (each seed)', 'NLL', 'ECE %'], lines)


def demo_table() -> str:
    """Return the demo's models and labels."""
    return table(['training', 'top-1 %', 'ECE %', 'label', 'Spearman with the true share', 'mean absolute error'], [
        [row['training'], f'{row["top1"]:.1f}', f'{row["ece"]:.1f}', row['label'], f'{row["spearman"]:.3f}',
         f'{row["mae"]:.3f}'] for row in read('demo-seed0')['rows']])


def paper_table(name: str, picture: Optional[Path] = None) -> str:
    """Return one of the tables of benchmarks.tables, and draw it if asked."""
    results = [result for result in read_results(RESULTS / 'tables') if result['table'] == name]
    return render(name, TABLES[name], results, picture)


def robustness_rows() -> Rows:
    """Return the rows of the robustness result, each with the arm that its checkpoint was trained by as 'name'."""
    return read('robustness')['rows']


def robustness_table() -> str:
    """Return the robustness of each arm, mean over its seeds."""
    rows, lines = robustness_rows(), []
    strengths, dropped = ('1.0', '2.0', '4.0'), ('0.2', '0.5', '0.7')
    for name in dict.fromkeys(row['name'] for row in rows):
        own = [row for row in rows if row['name'] == name]
        corrupted = [value for row in own for by_severity in row['corruptions'].values()
                     for value in by_severity.values()]
        lines.append([
            name, mean([r['top1'] for r in own], 1), mean([r['nll'] for r in own], 3), mean([r['ece'] for r in own], 1),
            ' / '.join(mean([r['fgsm'][s] for r in own], 1) for s in strengths),
            ' / '.join(mean([r['occlusion'][d] for r in own], 1) for d in dropped), mean(corrupted, 1)])
    return table([
        'label', 'top-1 %', 'NLL', 'ECE %', 'FGSM 1, 2, 4 / 255', '20, 50, 70 % occluded', 'corruptions, mean'], lines)


def corruptions_table() -> str:
    """Return top-1 under each corruption, mean over severities and seeds."""
    rows = robustness_rows()
    names = list(dict.fromkeys(row['name'] for row in rows))
    kinds = list(rows[0]['corruptions'])
    lines = [[kind] + [
        mean([v for row in rows if row['name'] == name for v in row['corruptions'][kind].values()], 1)
        for name in names] for kind in kinds]
    return table(['top-1 % under', *names], lines)


def draw_fidelity(picture: Path) -> None:
    """Draw Spearman's correlation and error of each label over the size of the objects."""
    rows = [r for r in read('fidelity')['rows'] if r['part'] == 'scene' and r['scene'].startswith('share ')]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    for label in dict.fromkeys(label_name(row) for row in rows if row['label'] != 'released'):
        own = [row for row in rows if label_name(row) == label]
        shares = sorted({float(row['scene'].split()[1]) for row in own})
        for axis, score in zip(axes, ('spearman', 'mae')):
            values = [
                statistics.mean(r[score] for r in own if float(r['scene'].split()[1]) == share) for share in shares]
            style = {'area': ':', 'snapmix': '--', 'lumix': '--'}.get(label, '-')
            axis.plot(shares, values, 'o' + style, label=label, markersize=4)
    axes[0].set(xlabel="share of the canvas that an object's box takes", ylabel="Spearman's correlation with the truth")
    axes[1].set(xlabel="share of the canvas that an object's box takes", ylabel='mean absolute error')
    axes[1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(picture, dpi=90)
    plt.close(figure)


def draw_comparison(picture: Path) -> None:
    """Draw gain in top-1, NLL and ECE of each label in each setting, every seed a dot."""
    grid = settings_grid()
    shown = ('area', 'similarity', 'feature', 'evidence 0', 'evidence 1', 'evidence 8', 'true')
    figure, axes = plt.subplots(3, len(grid), figsize=(1.5 + 2.3 * len(grid), 8.5), sharey=True, squeeze=False)
    for column, (name, arms) in enumerate(grid.items()):
        for height, arm in enumerate(shown):
            runs = arms.get(arm, [])
            scores = (gains(runs, arms['area']), [r['nll'] for r in runs], [r['ece'] for r in runs])
            for axis, values in zip(axes[:, column], scores):
                axis.plot(values, [height] * len(values), 'o', color=f'C{height}', alpha=0.6, markersize=4)
                if values:
                    axis.plot(statistics.mean(values), height, '|', color=f'C{height}', markersize=14)
        axes[0, column].set_title(name, fontsize=9)
        axes[0, column].axvline(0, color='#888888', linewidth=0.8)
        for axis, what in zip(axes[:, column], ('gain in top-1', 'NLL', 'ECE %')):
            axis.set_xlabel(what, fontsize=8)
            axis.tick_params(labelsize=7)
    for axis in axes[:, 0]:
        axis.set_yticks(range(len(shown)), shown, fontsize=8)
    axes[0, 0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(picture, dpi=90)
    plt.close(figure)


BLOCKS: Dict[str, Callable[[], str]] = {
    'fidelity by size': lambda: fidelity_table('scene', 'scene', lambda row: row['scene'].startswith('share ')),
    'fidelity of scenes': lambda: fidelity_table('scene', 'scene', lambda row: not row['scene'].startswith('share ')),
    'fidelity of policies': lambda: fidelity_table('policies', 'policy'),
    'fidelity by strength': lambda: fidelity_table('strengths', 'scene'),
    'fidelity by power': lambda: fidelity_table('power', 'power'),
    'fidelity of what was tried': lambda: fidelity_table('tried', 'scene', name='fidelity-tried'),
    'fidelity by epoch': lambda: fidelity_table('epochs', 'epoch'),
    'judges': judges_table,
    'comparison': lambda: comparison_table('placed-14'),
    'settings': settings_table,
    'gains': gains_table,
    'labels in short': labels_in_short,
    'models in short': models_in_short,
    'demo': demo_table,
    **{f'table {name}': lambda name=name: paper_table(name) for name in TRAINED_TABLES},
    'robustness': robustness_table,
    'corruptions': corruptions_table,
    **{
        f'made by {name}': lambda name=name: made_by(name)
        for name in ('fidelity', 'fidelity-tried', 'comparison', 'robustness')},
}


def fill(page: str) -> str:
    """Return the page with every block made anew; ValueError if it names one that does not exist."""
    def block(match):
        if match[1] not in BLOCKS:
            raise ValueError(f'blocks must be among {list(BLOCKS)}, got {match[1]!r}')
        return f'<!-- {match[1]} -->\n\n{BLOCKS[match[1]]()}\n\n<!-- end -->'

    return re.sub(r'<!-- ([\w -]+?) -->\n.*?<!-- end -->', block, page, flags=re.DOTALL)


def main() -> None:
    """Write pages and plots."""
    for page in PAGES:
        page.write_text(fill(page.read_text()))
    draw_fidelity(DOCS / 'fidelity.png')
    draw_comparison(DOCS / 'comparison.png')
    draw_robustness(robustness_rows(), DOCS / 'robustness.png')
    for name in TRAINED_TABLES:
        paper_table(name, RESULTS / 'tables' / f'{name}.png')


if __name__ == '__main__':
    main()
