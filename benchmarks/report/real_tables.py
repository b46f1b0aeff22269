"""Tables of real photographs: what each label makes of models, by strength, and how true it is."""
import statistics
from typing import Any, Collection, Dict, List

from ..common.markdown import mean, table
from ..common.results import read_result
from ..labels.arms import ALL_ARMS, ARMS, DEFAULT, WEIGHTS, weights_name
from .runs import Rows, at_common_seeds, changes, gains, grid, scores

SETTINGS = {'cifar100': 'CIFAR-100, from scratch', 'caltech101': 'Caltech-101, fine-tuning'}
TRAININGS = {
    'none': 'no mixing',
    'area': 'CutMix',
    'combined': '`--sumix-ratio combined`',
    'similarity': "`--sumix-ratio similarity`, the paper's kind",
}
NOISE = 0.5  # points of top-1
CALIBRATED = ', temperature fitted'
NAMES = {  # weights (w, s, k) of the formula
    '0 0 0': '`area`, CutMix',
    '0.5 0 0': '`visible`',
    '1 0 1': '`evidence`',
    '1 4 0': '`combined`',
    '0 2 0': '`similarity`',
    '0 0 8': '`feature`',
    '1 0 0': 'evidence alone',
}


def _settings() -> Dict[str, Dict[str, Rows]]:
    return {title: grid('real')[setting] for setting, title in SETTINGS.items()}


def _with_all_seeds(found: Dict[str, Dict[str, Rows]], arms: Collection[str]) -> List[str]:
    """Return those of the arms that were trained with as many seeds as CutMix in every setting."""
    return [arm for arm in arms if all(len(own.get(arm, [])) == len(own['area']) for own in found.values())]


def _text(arm: str) -> str:
    arm, _, part = arm.partition(',')
    text = TRAININGS.get(arm, f'`--sumix-ratio {arm.replace(" ", ",")}`')
    text = f'**`--sumix`** (ratio `{arm}`)' if arm == DEFAULT else text
    return text + {'': '', ' half mixed': ', half of the samples mixed', ' shuffled': ', corrections exchanged'}[part]


def real_in_short(shown: Collection[str] = ALL_ARMS, is_calibrated: bool = True) -> str:
    """Return top-1 / NLL / ECE by training and setting, means over the seeds, of the arms that have all of them."""
    found, lines = _settings(), []
    for arm in _with_all_seeds(found, shown):
        lines.append([_text(arm), *(scores(arms[arm]) for arms in found.values())])
        if is_calibrated and arm in ('area', DEFAULT):
            text = TRAININGS[arm] if arm == 'area' else 'the default'
            lines.append([text + CALIBRATED, *(_calibrated(arms[arm]) for arms in found.values())])
    return table(['training', *found], lines)


def real_on_page_one() -> str:
    """Return the table of page one, and a sentence of what the default gains over CutMix."""
    parts = ' and '.join(_gain(arms[DEFAULT], arms['area']) for arms in _settings().values())
    return (
        f"{real_in_short(('none', 'area', DEFAULT, 'area, half mixed', f'{DEFAULT}, half mixed'), False)}\n\n"
        f'With all samples mixed, the default gained {parts} points of top-1 over CutMix (95 % intervals).')


def _gain(runs: Rows, base: Rows) -> str:
    return mean(gains(runs, base), 2, True)


def control_table() -> str:
    """Return CutMix, the default, and its corrections exchanged among samples of one area, at their common seeds."""
    names = {'area': 'CutMix', DEFAULT: '`--sumix`', f'{DEFAULT}, shuffled': '`--sumix`, corrections exchanged'}
    lines, header = [[text] for text in names.values()], ['training']
    for setting, title in SETTINGS.items():
        same, count = at_common_seeds(grid('real', names)[setting])
        header.append(f'{title}, {count}')
        for line, arm in zip(lines, names):
            line.append(scores(same[arm]))
    return table(header, lines)


def verdict_table() -> str:
    """Return what the rule of the default asks, of each label that was trained with all seeds in all settings."""
    found, lines = _settings(), []
    for label in _with_all_seeds(found, [arm for arm in ARMS if arm not in ('none', 'area')]):
        over = [statistics.mean(gains(arms[label], arms['area'])) for arms in found.values()]
        calibrated = [setting for setting, arms in found.items() if all(
            statistics.mean(run[score] for run in arms[label])
            < statistics.mean(run['calibrated'][score] for run in arms['area']) for score in ('nll', 'ece'))]
        lines.append([
            f'`{label}`', *(_gain(arms[label], arms['area']) for arms in found.values()),
            ', '.join(calibrated) or 'none', 'yes' if min(over) > NOISE and calibrated else 'no'])
    return table([
        'label', *(f'top-1 over CutMix: {setting}' for setting in found),
        "NLL and ECE better than CutMix's with a fitted temperature", 'passes'], lines)


def _calibrated(runs: Rows) -> str:
    return scores([{**run, **run['calibrated']} for run in runs])


def real_table() -> str:
    """Return each setting's scores by label, their change over CutMix with its interval, and calibrated scores."""
    lines = []
    for setting, arms in grid('real').items():
        for arm, runs in arms.items():
            lines.append([
                setting, arm, str(len(runs)), scores(runs), *changes(runs, arms['area']), _calibrated(runs),
                mean([run['calibrated']['temperature'] for run in runs], 2)])
    return table([
        'setting', 'label', 'seeds', 'top-1 / NLL / ECE', 'top-1 over CutMix', 'NLL over CutMix',
        'with a fitted temperature', 'which is'], lines)


def strengths_table() -> str:
    """Return top-1 / NLL / ECE of each strength s, by the evidence's weight w, of one seed."""
    (_, arms), = grid('strengths').items()
    of_evidence, of_predictions = (list(dict.fromkeys(each[i] for each in WEIGHTS)) for i in (0, 1))
    others = ['-'] * (len(of_evidence) - 1)
    return table(['s', *(f'w {w:g}' for w in of_evidence)], [
        ['0', scores(arms['area']), *others],
        *([f'{s:g}', *(scores(arms[weights_name((w, s, 0.))]) for w in of_evidence)] for s in of_predictions),
        ['2, from 0 in the first step', scores(arms['similarity, growing']), *others]])


def _truth_rows() -> List[Dict[str, Any]]:
    rows = read_result('fidelity-grid')['rows']
    for row in rows:
        values = row['over_area'].values()
        row['mean'], row['most'] = statistics.mean(values), max(values)
    return rows


def truth_table() -> str:
    """Return the named labels' squared error over the area's, in one pass."""
    rows = {row['weights']: row for row in _truth_rows() if row['power'] == 4. and row['passes'] == 1}
    kinds = list(rows['0 0 0']['over_area'])
    return table(['label', *kinds, 'mean', 'worst'], [
        [name, *(f'{value:.2f}' for value in (*row['over_area'].values(), row['mean'], row['most']))]
        for name, row in ((name, rows[weights]) for weights, name in NAMES.items())])
