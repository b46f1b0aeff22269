"""Plots of the pages."""
import statistics
from pathlib import Path
from typing import Dict, List

import numpy as np

from ..common.figures import plt, save
from ..common.markdown import interval
from ..common.results import read_result
from .label_tables import label_name
from .runs import Comparison, gains, grid, test_sets

GROUPS = 10  # points of the reliability diagram, of bins sorted by confidence
SCORES = {'top1': 'change in top-1, points', 'nll': 'change in NLL', 'ece': 'change in ECE, points'}


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


def draw_gains(picture: Path) -> None:
    """Draw the change of the main labels over CutMix in each test set, over many seeds, with 95 % intervals."""
    rows = [
        (setting if other is None else f'{setting},\n{other}', arms, other)
        for setting, arms in grid('seeds').items() for other in test_sets(arms)]
    drawn = ('evidence', 'evidence 1', 'true')
    _draw_changes(picture, [name for name, *_ in rows], {
        arm: [
            {score: gains(arms[arm], arms['area'], score, other) for score in SCORES} if arm in arms else {}
            for _, arms, other in rows]
        for arm in drawn})


def draw_controls(picture: Path, compared: Comparison) -> None:
    """Draw the change of some arms over one of them, with 95 % intervals, in each setting that has them."""
    found = grid('controls')
    shown = [arm for arm in compared.arms if arm not in ('none', compared.base)]
    arms = [arm for arm in shown if any(arm in own for own in found.values())]
    _draw_changes(picture, arms, {
        setting: [
            {score: gains(own[arm], own[compared.base], score) for score in SCORES} if arm in own else {}
            for arm in arms]
        for setting, own in found.items() if any(arm in own for arm in arms)})


def _draw_changes(picture: Path, names: List[str], groups: Dict[str, List[Dict[str, List[float]]]]) -> None:
    """Draw changes in each score: a line for each name, a colour for each group, a mark for each seed."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 1.4 + 0.2 * len(groups) * len(names)), sharey=True)
    for axis, (score, what) in zip(axes, SCORES.items()):
        for number, changes in enumerate(groups.values()):
            for height, values in enumerate(change.get(score, []) for change in changes):
                if values:
                    at, colour = height + 0.24 * (number - (len(groups) - 1) / 2), f'C{number}'
                    axis.errorbar(
                        statistics.mean(values), at, xerr=interval(values), fmt='o', capsize=3, color=colour)
                    axis.plot(values, [at] * len(values), '|', color=colour, alpha=0.4, markersize=7)
        axis.axvline(0, color='#888888', linewidth=0.8)
        axis.set_xlabel(what)
        axis.grid(axis='x', alpha=0.3)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    handles = [plt.Line2D([], [], marker='o', color=f'C{number}') for number in range(len(groups))]
    axes[1].legend(
        handles, list(groups), fontsize=8, loc='lower center', bbox_to_anchor=(0.5, 1.), ncols=len(groups))
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


def draw_robustness(picture: Path) -> None:
    """Draw reliability diagram and occlusion curve; rows of one 'name' (an arm's seeds) are drawn as their mean."""
    rows = read_result('robustness')['rows']
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
    names = list(dict.fromkeys(row.get('name', row['checkpoint']) for row in rows))
    left.plot([0, 1], [0, 1], ':', color='#888888')
    for name in names:
        own = [row for row in rows if row.get('name', row['checkpoint']) == name]
        diagram = np.array(sorted(bar for row in own for bar in row['reliability']))
        groups = np.array_split(diagram, GROUPS)
        points = [np.average(group[:, :2], axis=0, weights=group[:, 2]) for group in groups if len(group)]
        left.plot(*zip(*points), '.-', label=name)
        dropped = [float(key) for key in own[0]['occlusion']]
        right.plot(dropped, [np.mean([row['occlusion'][key] for row in own]) for key in own[0]['occlusion']], '.-')
    left.set(xlabel='confidence', ylabel='accuracy', title='Reliability')
    right.set(xlabel='share of patches dropped', ylabel='top-1 %', title='Occlusion')
    left.legend(fontsize=8)
    save(figure, picture, dpi=90)
