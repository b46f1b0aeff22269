"""The plot of robustness results: reliability diagram and occlusion curve."""
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from .figures import plt, save

GROUPS = 10  # points of the reliability diagram, of bins sorted by confidence


def draw_robustness(rows: List[Dict[str, Any]], picture: Path) -> None:
    """Draw reliability diagram and occlusion curve; rows of one 'name' (an arm's seeds) are drawn as their mean."""
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
