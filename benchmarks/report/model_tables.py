"""Tables of the models that each label makes."""
from pathlib import Path
from typing import Collection, Dict, List, Optional

from ..common.markdown import mean, table
from ..common.results import read_result
from ..labels.arms import ARMS, BINARY, EARLIER_DEFAULT, EARLIER_IDEAS, HALF_UNMIXED
from .runs import ALL_ORDERED, Comparison, Rows, by_arm, gains, grid, score_of, test_set_name, test_sets

DIGITS = {'top1': 1, 'nll': 3, 'ece': 1}  # of each score in the tables


def comparison_table(setting: str) -> str:
    """Return the arms of one setting with their scores, and their gain over CutMix's labels at each seed."""
    arms, lines = by_arm(read_result('comparison')['runs'], setting), []
    for arm, runs in arms.items():
        gained = gains(runs, arms['area'])
        lines.append([
            arm, mean([run['top1'] for run in runs], 1, True),
            '-' if arm == 'area' else f"{mean(gained, 2, True, '+')} ({', '.join(f'{gain:+.2f}' for gain in gained)})",
            mean([run['nll'] for run in runs], 3), mean([run['ece'] for run in runs], 1)])
    return table(['label', 'top-1 %', 'gain over area (each seed)', 'NLL', 'ECE %'], lines)


def settings_table() -> str:
    """Return top-1, NLL and ECE of each label that several settings have, '-' where one lacks it."""
    found = grid('comparison')
    arms = [arm for arm in (*ARMS, *EARLIER_IDEAS) if sum(arm in own for own in found.values()) > 1]
    return table(['label', *found], [
        [arm, *(
            ' / '.join(mean([run[score] for run in own[arm]], digits) for score, digits in DIGITS.items())
            if arm in own else '-' for own in found.values())] for arm in arms])


def test_sets_table(name: str, order: Collection[str] = ALL_ORDERED) -> str:
    """Return the scores of a result's labels on each test set, and their change over CutMix with its 95 % interval.

    Args:
        name: Name of the committed result. Arms that it lacks are left out, and seeds that an arm lacks.
        order: The arms, in their order in the table.
    """
    lines = []
    for setting, arms in grid(name, order).items():
        base = arms.get('area', [])
        for other in test_sets(arms):
            for arm, runs in arms.items():
                lines.append([
                    test_set_name(setting, other), arm, str(len(runs)), *_scores_and_gains(runs, base, other)])
    return table(['test set', 'label', 'seeds', 'top-1 %', 'gain', 'NLL', 'change', 'ECE %', 'change'], lines)


def _scores_and_gains(runs: Rows, base: Rows, other: Optional[str] = None) -> List[str]:
    """Return each score's mean, and its change over the base at their common seeds with half of its 95 % interval."""
    cells = []
    for score, digits in DIGITS.items():
        own = [score_of(run, score, other) for run in runs]
        if score != 'top1' and runs[0]['arm'] in BINARY:
            cells += ['-', '-']  # such a model's probabilities are no softmax
            continue
        changes = [] if runs is base else gains(runs, base, score, other)
        cells += [mean(own, digits), mean(changes, 3 if score == 'nll' else 2, True, '+') if changes else '-']
    return cells


TRAININGS = {  # of the arms of most interest
    'none': 'no mixing',
    'area': 'CutMix',
    'combined': "**this library's default, `combined`: `--sumix`**",
    'unmixed, similarity': "the paper's kind of label: `--sumix-ratio similarity`",
    'unmixed': '`--sumix-ratio evidence`',
    'paper': '`--sumix-preset paper`: two passes',
    'area, half unmixed': 'CutMix of half of the samples: `--mixup-prob 0.5`',
    'true, one pass': 'the true share',
}
COMMON = {  # result, its setting
    'ResNet-18': ('common', 'resnet18'), 'narrow ResNet-18': ('unmixing', 'resnet18-narrow'),
    'Wide ResNet': ('unmixing', 'placed-14-wide')}


def common_in_short() -> str:
    """Return scores of three models by label, and the part of the truth's gain in NLL over CutMix; * marks one seed."""
    found = [grid(name)[setting] for name, setting in COMMON.values()]
    return table(['training', *(cell for model in COMMON for cell in (model, 'gain'))], [
        [text, *(cell for arms in found for cell in _in_short(arms, arm))] for arm, text in TRAININGS.items()])


def _in_short(arms: Dict[str, Rows], arm: str) -> List[str]:
    """Return the mean scores, and the gain in NLL over CutMix as a part of the truth's, at the seeds that all have."""
    if arm not in arms:
        return ['-', '-']
    scores = ' / '.join(mean([run[score] for run in arms[arm]], digits) for score, digits in DIGITS.items())
    gain = '-'
    if arm != 'area' and 'true, one pass' in arms:
        seeds = set.intersection(*({run['seed'] for run in arms[name]} for name in (arm, 'area', 'true, one pass')))
        own, true = (
            sum(gains([run for run in arms[name] if run['seed'] in seeds], arms['area'], 'nll'))
            for name in (arm, 'true, one pass'))
        gain = f'{100 * own / true:.0f} %'
    return [scores + ('*' if len(arms[arm]) == 1 else ''), gain]


def label_errors_table() -> str:
    """Return the mean absolute error of the labels that were trained on, first epoch -> last, by label and setting."""
    found: Dict[str, Dict[str, Rows]] = {}
    for name in ('common', 'unmixing', 'fine-tuning'):
        for setting, arms in grid(name).items():
            measured = {
                arm: [run for run in runs if 'label_error' in run] for arm, runs in arms.items()
                if arm not in ('none', 'true, one pass')}
            found[setting] = {arm: runs for arm, runs in measured.items() if runs}
    settings = [setting for setting, arms in found.items() if arms]
    return table(['label', *settings], [
        [arm, *(_first_and_last_error(found[setting].get(arm)) for setting in settings)]
        for arm in ALL_ORDERED if any(arm in found[setting] for setting in settings)])


TAUGHT = {
    'none': 'no mixing, no teacher', 'area': 'CutMix, no teacher', 'combined': 'the default, no teacher',
    'distilled, area': 'a teacher, labels by area', 'distilled': 'a teacher, shares of the student: `--kd-model-name`',
    'distilled, shares of the teacher': 'a teacher, its shares: `--sumix-teacher-shares`',
    'distilled, true, one pass': 'a teacher, the true share'}


def distillation_table() -> str:
    """Return scores of students, and the mean absolute error of the labels they were trained on."""
    arms, = grid('distillation').values()
    return table(['training', 'seeds', 'top-1 %', 'NLL', 'ECE %', "labels' error, first epoch -> last"], [
        [text, str(len(arms[arm])), *(mean([run[score] for run in arms[arm]], digits) for score, digits in
                                      DIGITS.items()), '-' if arm == 'none' else _first_and_last_error(arms[arm])]
        for arm, text in TAUGHT.items() if arm in arms])


def _first_and_last_error(runs: Optional[Rows]) -> str:
    if not runs:
        return '-'
    return ' -> '.join(mean([run['label_error'][f'{when} epoch'] for run in runs], 3) for when in ('first', 'last'))


def controls_table(setting: str, compared: Comparison) -> str:
    """Return the scores of some arms of a setting, and their change over one of them with its 95 % interval."""
    arms = grid('controls')[setting]
    return table(['label', 'seeds', 'top-1 %', 'gain', 'NLL', 'change', 'ECE %', 'change'], [
        [arm, str(len(runs)), *_scores_and_gains(runs, arms[compared.base])]
        for arm, runs in arms.items() if arm in compared.arms])


def half_unmixed_table() -> str:
    """Return the scores of corrected labels where half of the samples are unmixed, and the change over area there."""
    lines = []
    for name, setting in (('controls', 'placed-14'), ('seeds', 'placed-emoji')):
        arms = grid(name)[setting]
        base, corrected = (arms[arm] for arm in HALF_UNMIXED)
        for other in test_sets(arms):
            lines.append([
                test_set_name(setting, other), str(len(corrected)), *_scores_and_gains(corrected, base, other)])
    return table(['test set', 'seeds', 'top-1 %', 'gain', 'NLL', 'change', 'ECE %', 'change'], lines)


def temperature_table() -> str:
    """Return NLL and ECE of models with labels by area and corrected, as trained and calibrated by a temperature."""
    rows, lines = read_result('temperature')['rows'], []
    for setting in dict.fromkeys(row['setting'] for row in rows):
        for base, arm in (('area', EARLIER_DEFAULT), HALF_UNMIXED):
            pair = [[row for row in rows if (row['setting'], row['arm']) == (setting, name)] for name in (base, arm)]
            for other in test_sets({arm: [row['before'] for row in pair[0]]}):
                lines.append([
                    test_set_name(setting, other), f'{base} -> {arm}', str(len(pair[0])),
                    *_calibrated_gains(pair, other)])
    header = ['test set', 'labels', 'seeds', 'NLL', 'change', 'calibrated NLL', 'change', 'calibrated ECE %', 'change']
    return table(header, lines)


def _calibrated_gains(pair: List[Rows], other: Optional[str]) -> List[str]:
    """Return 'mean of base -> mean of runs' and the change with its 95 % interval, before and after calibration."""
    cells = []
    for when, score in (('before', 'nll'), ('after', 'nll'), ('after', 'ece')):
        base, runs = ([{'seed': row['seed'], **row[when]} for row in rows] for rows in pair)
        both = ([score_of(run, score, other) for run in own] for own in (base, runs))
        cells += [
            ' -> '.join(mean(values, DIGITS[score]) for values in both),
            mean(gains(runs, base, score, other), 3 if score == 'nll' else 2, True, '+')]
    return cells


def wall_time(name: str) -> str:
    """Return one sentence: how many runs a result holds, and how long they took."""
    runs = read_result(name)['runs']
    return (
        f'{len(runs)} runs, {sum(run["seconds"] for run in runs) / 3600:.1f} hours of training in all, one core a run, '
        'two at a time.')


def models_in_short() -> str:
    """Return the scores of models trained with the earlier default over many seeds, beside CutMix's."""
    lines = []
    for setting, arms in grid('seeds').items():
        pair = (arms['area'], arms[EARLIER_DEFAULT])
        top1, *scores = (
            ' -> '.join(mean([run[score] for run in own], digits) for own in pair) for score, digits in DIGITS.items())
        lines.append([f'`{setting}`', top1, mean(gains(*pair[::-1]), 2, True, '+'), *scores])
    return table(['setting', 'top-1 %', 'gain, 95 % interval', 'NLL', 'ECE %'], lines)


def robustness_table(name: str = 'robustness') -> str:
    """Return the robustness of each arm of a committed result, mean over its seeds."""
    rows, lines = read_result(name)['rows'], []
    strengths, dropped = ('1.0', '2.0', '4.0'), ('0.2', '0.5', '0.7')
    names = [row.get('name', Path(row['checkpoint']).parts[-3]) for row in rows]  # SETTING/ARM/seedN/checkpoint.pth.tar
    for arm in dict.fromkeys(names):
        own = [row for row, name in zip(rows, names) if name == arm]
        corrupted = [value for row in own for by_severity in row['corruptions'].values()
                     for value in by_severity.values()]
        lines.append([
            arm, *(mean([row[score] for row in own], digits) for score, digits in DIGITS.items()),
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
