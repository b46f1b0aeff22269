"""Plots of the pages."""
import statistics
from pathlib import Path

from ..common.figures import plt, save
from ..common.results import read_result
from .label_tables import label_name
from .runs import gains, settings_grid

ARMS_DRAWN = (
    'area', 'similarity', 'feature', 'evidence', 'evidence, fade 0.6', 'evidence 0', 'evidence 1', 'evidence 8', 'true')


def draw_fidelity(picture: Path) -> None:
    """Draw Spearman's correlation and error of each label over the size of the objects."""
    rows = [r for r in read_result('fidelity')['rows'] if r['part'] == 'scene' and r['scene'].startswith('share ')]
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
    save(figure, picture, dpi=90)


def draw_comparison(picture: Path) -> None:
    """Draw gain in top-1, NLL and ECE of each label in each setting, every seed a dot."""
    grid = settings_grid()
    figure, axes = plt.subplots(3, len(grid), figsize=(1.5 + 2.3 * len(grid), 8.5), sharey=True, squeeze=False)
    for column, (name, arms) in enumerate(grid.items()):
        for height, arm in enumerate(ARMS_DRAWN):
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
        axis.set_yticks(range(len(ARMS_DRAWN)), ARMS_DRAWN, fontsize=8)
    axes[0, 0].invert_yaxis()
    save(figure, picture, dpi=90)


def draw_speed(picture: Path) -> None:
    """Draw time, with its quartiles, and peak memory of a step over CutMix's, each setting in each model."""
    steps = read_result('speed')['steps']
    settings = [setting for setting in next(iter(steps.values())) if setting != 'timm']
    figure, axes = plt.subplots(1, 2, figsize=(10, 0.6 + 0.55 * len(settings)), sharey=True)
    for i, (model, rows) in enumerate(steps.items()):
        heights = [height + 0.25 * (i - (len(steps) - 1) / 2) for height in range(len(settings))]
        own = [rows[setting] for setting in settings]
        spread = [[row['ratio'] - row['low'] for row in own], [row['high'] - row['ratio'] for row in own]]
        axes[0].barh(heights, [row['ratio'] for row in own], 0.22, xerr=spread, color=f'C{i}', label=model)
        axes[1].barh(heights, [row['memory'] for row in own], 0.22, color=f'C{i}')
    for axis, what in zip(axes, ("time of a step over CutMix's, with quartiles", "peak memory over CutMix's")):
        axis.axvline(1., color='#888888', linewidth=0.8)
        axis.set_xlabel(what)
    axes[0].set_yticks(range(len(settings)), settings)
    axes[0].invert_yaxis()
    axes[0].legend(fontsize=8)
    save(figure, picture, dpi=90)
