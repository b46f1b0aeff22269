"""Tables of what training steps and their parts cost, and of what each architecture gets."""
from typing import Any, Dict

from ..common.markdown import table
from ..common.results import read_result

MODES = ('batch', 'pair', 'elem')


def steps_table(name: str = 'speed') -> str:
    """Return time and peak memory of a step over plain CutMix's, settings down and models across."""
    steps = read_result(name)['steps']
    settings = [setting for setting in next(iter(steps.values())) if setting != 'timm']
    return table(['SUMix', *(f'`{model}`' for model in steps)], [
        [setting, *(_time_and_memory(rows[setting]) for rows in steps.values())]
        for setting in settings])


def _time_and_memory(row: Dict[str, Any]) -> str:
    return f'{row["ratio"]:.2f} ({row["low"]:.2f} to {row["high"]:.2f}) / {row["memory"]:.3f}'


def steps_in_short() -> str:
    """Return time and peak memory of a step over CutMix's, their range over the models, on a GPU and on a CPU."""
    devices, lines = [read_result(name)['steps'] for name in ('gpu', 'speed')], []
    names = {
        'default': '`--sumix`, the default', 'evidence': '`--sumix-ratio evidence`',
        'similarity, gamma 0.5': '`--sumix-ratio similarity --sumix-gamma 0.5`',
        'no-grad': '`--sumix-original-pass no-grad`', 'grad (preset paper)': '`--sumix-preset paper`'}
    for setting, text in names.items():
        lines.append([text, *(
            _range([own[setting][score] for own in steps.values() if setting in own])
            for steps in devices for score in ('ratio', 'memory'))])
    return table(["over CutMix's", 'GPU: time of a step', 'peak memory', 'CPU: time', 'peak memory'], lines)


def cost_sentence() -> str:
    """Return what page one says of the cost: the range over the models of time over a step of CutMix."""
    def times(name: str, setting: str) -> str:
        return _range([own[setting]['ratio'] for own in read_result(name)['steps'].values()])
    return (
        f"a step takes {times('speed', 'default')} of the time of CutMix's on a CPU, where the paper's two passes take "
        f"{times('speed', 'grad (preset paper)')}; on an H200 `evidence` takes {times('gpu', 'evidence')}, and the "
        'default was not timed.')


def _range(values) -> str:
    if not values:
        return '-'
    low, high = (f'{value:.2f}' for value in (min(values), max(values)))
    return low if low == high else f'{low} to {high}'


def mixing_table() -> str:
    """Return the time of mixing over that of other libraries, by mode."""
    mixing = read_result('speed')['mixing']['others']
    lines = {}
    for name, row in mixing.items():
        what, other = name.split(' over ')
        choice, mode = what.split(', ')
        lines.setdefault((choice, other), {})[mode] = f'{row["ratio"]:.2f}'
    return table(['mixing', 'over', *MODES], [
        [choice, other, *(own.get(mode, '-') for mode in MODES)] for (choice, other), own in lines.items()])


def policies_table() -> str:
    """Return the time of each policy over CutMix's, by mode."""
    rows = read_result('speed')['mixing']['policies']
    names = list(dict.fromkeys(name.split(', ')[0] for name in rows))
    return table(["time over CutMix's", *MODES], [
        [name, *(f'{rows[f"{name}, {mode}"]["ratio"]:.1f}' for mode in MODES)] for name in names])


def zoo_table() -> str:
    """Return what is read of the models that return more than the last map."""
    rows = read_result('zoo')['architectures']
    return table(['module', 'model', 'map from', 'evidence from'], [
        [f'`{module}`', f'`{row["model"]}`', f'`{row["source"]}`',
         'attention' if row['reads_attention'] else 'last map']
        for module, row in rows.items() if row['has_others']])


def zoo_count() -> str:
    """Return how many modules there are, and of how many a step was run."""
    rows = read_result('zoo')['architectures'].values()
    mapped, shapes = (sum(bool(row[key]) for row in rows) for key in ('source', 'meta'))
    return (
        f'{mapped} of {len(rows)} modules have a map. Of {len(rows) - shapes} whole steps were run (forward, backward, '
        f'checkpoint loaded by plain timm), of {shapes} with more than 60 million parameters shapes alone.')
