"""The one set-up of matplotlib: pictures are drawn to files, never to a screen."""
from pathlib import Path
from typing import Union

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

__all__ = ['hide_ticks', 'plt', 'save']


def save(figure: plt.Figure, path: Union[str, Path], dpi: int) -> None:
    """Lay a figure out, write it to a file, and close it."""
    figure.tight_layout()
    figure.savefig(path, dpi=dpi)
    plt.close(figure)


def hide_ticks(axis: plt.Axes) -> None:
    """Take the ticks off an axis that shows an image."""
    axis.set_xticks([])
    axis.set_yticks([])
