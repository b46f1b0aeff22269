"""Tables of the models that each label makes."""
from typing import Collection, Dict, List

from ..common.markdown import mean, table
from ..labels.arms import ALL_ARMS
from .runs import DIGITS, Rows, gains, grid, scores


def settings_table(name: str, order: Collection[str] = ALL_ARMS) -> str:
    """Return the scores of a result's labels in each setting, and their change over CutMix with its 95 % interval.

    Args:
        name: Name of the committed result. Arms that it lacks are left out, and seeds that an arm lacks.
        order: The arms, in their order in the table.
    """
    return table(['setting', 'label', 'seeds', 'top-1 %', 'gain', 'NLL', 'change', 'ECE %', 'change'], [
        [setting, arm, str(len(runs)), *_scores_and_gains(runs, arms.get('area', []))]
        for setting, arms in grid(name, order).items() for arm, runs in arms.items()])


def _scores_and_gains(runs: Rows, base: Rows) -> List[str]:
    """Return each score's mean, and its change over the base at their common seeds with half of its 95 % interval."""
    cells = []
    for score, digits in DIGITS.items():
        own = [run[score] for run in runs]
        changes = [] if runs is base else gains(runs, base, score)
        cells += [mean(own, digits), mean(changes, 3 if score == 'nll' else 2, True, '+') if changes else '-']
    return cells


TRAININGS = {  # of the arms of most interest
    'none': 'no mixing',
    'area': 'CutMix',
    'combined': '`--sumix-ratio combined`',
    'similarity': "**the default, the paper's kind of label: `--sumix`**",
    'evidence': '`--sumix-ratio evidence`',
    'paper': '`--sumix-preset paper`: two passes',
    'area, half mixed': 'CutMix of half of the samples: `--mixup-prob 0.5`',
    'true': 'the true share',
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
    gain = '-'
    if arm != 'area' and 'true' in arms:
        seeds = set.intersection(*({run['seed'] for run in arms[name]} for name in (arm, 'area', 'true')))
        own, true = (
            sum(gains([run for run in arms[name] if run['seed'] in seeds], arms['area'], 'nll'))
            for name in (arm, 'true'))
        gain = f'{100 * own / true:.0f} %'
    return [scores(arms[arm]) + ('*' if len(arms[arm]) == 1 else ''), gain]


def label_errors_table() -> str:
    """Return the mean absolute error of the labels that were trained on, first epoch -> last, by label and setting."""
    found: Dict[str, Dict[str, str]] = {}
    for name in ('common', 'unmixing', 'fine-tuning'):
        for setting, arms in grid(name).items():
            for arm, runs in arms.items():
                measured = [run for run in runs if 'label_error' in run]  # older runs have none
                if measured and arm not in ('none', 'true'):
                    found.setdefault(setting, {})[arm] = _first_and_last_error(measured)
    return table(['label', *found], [
        [arm, *(errors.get(arm, '-') for errors in found.values())]
        for arm in ALL_ARMS if any(arm in errors for errors in found.values())])


TAUGHT = {
    'none': 'no mixing, no teacher', 'area': 'CutMix, no teacher', 'combined': '`combined`, no teacher',
    'distilled, area': 'a teacher, labels by area',
    'distilled, combined': 'a teacher, corrected shares: `--kd-model-name`',
    'distilled, true': 'a teacher, the true share'}


def distillation_table() -> str:
    """Return scores of students, and the mean absolute error of the labels they were trained on."""
    arms, = grid('distillation').values()
    return table(['training', 'seeds', 'top-1 %', 'NLL', 'ECE %', "labels' error, first epoch -> last"], [
        [text, str(len(arms[arm])), *scores(arms[arm]).split(' / '),
         '-' if arm == 'none' else _first_and_last_error(arms[arm])]
        for arm, text in TAUGHT.items() if arm in arms])


def _first_and_last_error(runs: Rows) -> str:
    return ' -> '.join(mean([run['label_error'][f'{when} epoch'] for run in runs], 3) for when in ('first', 'last'))
