"""Tables of the models that each label makes."""
from typing import Collection, Dict

from ..common.markdown import mean, table
from .runs import Rows, at_common_seeds, changes, gains, grid, scores

SHOWN = (  # labels of today's formulas, and what they are compared with
    'none', 'area', 'similarity', 'combined', 'evidence', 'paper', 'transmix', 'true')


def settings_table(name: str, order: Collection[str] = SHOWN) -> str:
    """Return the scores of a result's labels in each setting, and their change over CutMix with its interval.

    Args:
        name: Name of the committed result. Arms that it lacks are left out, and seeds that an arm lacks.
        order: The arms, in their order in the table.
    """
    return table(['setting', 'label', 'seeds', 'top-1 / NLL / ECE', 'top-1 over CutMix', 'NLL over CutMix'], [
        [setting, arm, str(len(runs)), scores(runs), *changes(runs, arms.get('area', []))]
        for setting, arms in grid(name, order).items() for arm, runs in arms.items()])


def transformers_table() -> str:
    """Return the scores of each label in each setting of transformers, at the seeds that all have, and its changes."""
    header, lines = ['label'], {arm: [arm] for arm in SHOWN}
    for setting, arms in grid('transformers', SHOWN).items():
        same, count = at_common_seeds(arms)
        header += [f'{setting}, {count}', 'top-1, NLL over CutMix']
        for arm, line in lines.items():
            line += [scores(same[arm]), ', '.join(changes(same[arm], same['area']))] if arm in same else ['-', '-']
    return table(header, [line for line in lines.values() if set(line[1:]) != {'-'}])


TRAININGS = {  # of the arms of most interest
    'none': 'no mixing',
    'area': 'CutMix',
    'combined': '`--sumix-ratio combined`',
    'similarity': "**the default, the paper's kind of label: `--sumix`**",
    'evidence': '`--sumix-ratio evidence`',
    'true': 'the true share',
}
COMMON = {  # result, its setting
    'ResNet-18': ('common', 'resnet18'), 'narrow ResNet-18': ('unmixing', 'resnet18-narrow'),
    'Wide ResNet': ('unmixing', 'placed-14-wide')}


def common_in_short() -> str:
    """Return scores of three models by label, and the part of the truth's gain, at the seeds that all labels have."""
    lines, names = [[text] for text in TRAININGS.values()], ['training']
    for model, (name, setting) in COMMON.items():
        same, count = at_common_seeds(grid(name, TRAININGS)[setting])
        names += [f'{model}, {count}', 'gain']
        for line, arm in zip(lines, TRAININGS):
            line += [scores(same[arm]) if arm in same else '-', _part_of_truth(same, arm)]
    return table(names, lines)


def _part_of_truth(arms: Dict[str, Rows], arm: str) -> str:
    """Return the gain in NLL over CutMix as a part of the true share's."""
    if arm == 'area' or arm not in arms:
        return '-'
    own, true = (sum(gains(arms[name], arms['area'], 'nll')) for name in (arm, 'true'))
    return f'{100 * own / true:.0f} %'


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
