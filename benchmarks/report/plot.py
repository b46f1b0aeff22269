"""The plot of the results' page: what each label gains over CutMix, by setting."""
import statistics
from pathlib import Path

from ..common.figures import plt
from ..common.markdown import interval
from .real_tables import DEFAULT, SETTINGS
from .runs import gains, grid

NAMES = {
    'none': 'no mixing', DEFAULT: '--sumix', 'combined': 'combined', '1 1 0': '1,1,0', 'visible': 'visible',
    f'{DEFAULT}, shuffled': '--sumix, exchanged', 'area, half mixed': 'CutMix, half mixed',
    f'{DEFAULT}, half mixed': '--sumix, half mixed'}


def draw_gains(path: Path) -> None:
    """Save the gains in top-1 over CutMix of the labels that have several seeds, with their 95 % intervals."""
    figure, axes = plt.subplots(1, len(SETTINGS), figsize=(10, 3), sharey=True)
    for panel, (setting, title) in zip(axes, SETTINGS.items()):
        arms = grid('real')[setting]
        for height, (arm, name) in enumerate(reversed(NAMES.items())):
            values = gains(arms.get(arm, []), arms['area'])
            if len(values) > 1:
                panel.errorbar(
                    statistics.mean(values), height, xerr=interval(values), fmt='o', capsize=3,
                    color='#1f5fa8' if '--sumix' in name else '#8a8a8a')
        panel.axvline(0, color='black', linewidth=0.8)
        panel.set_title(title, fontsize=11)
        panel.set_xlabel('points of top-1 over CutMix')
    axes[0].set_yticks(range(len(NAMES)), list(reversed(NAMES.values())))
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)
