"""The one set-up of matplotlib: pictures are drawn to files, never to a screen."""
import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

__all__ = ['plt']
