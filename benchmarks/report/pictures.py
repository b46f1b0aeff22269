"""Plots of the pages."""
import statistics
from pathlib import Path

from ..common.figures import plt, save
from ..common.results import read_result
from .label_tables import label_name


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
