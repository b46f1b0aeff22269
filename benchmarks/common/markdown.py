"""Tables in Markdown, and means with their intervals as text."""
import statistics
from typing import Optional, Sequence

from scipy.stats import t


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of a header and lines of cells."""
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in [header, ['---'] * len(header), *lines])


def interval(values: Sequence[float]) -> Optional[float]:
    """Return half the width of the 95 % confidence interval of a mean (Student's t), None for fewer than two values."""
    if len(values) < 2:
        return None
    return float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5


def mean(values: Sequence[float], digits: int, spread: bool = False, sign: str = '') -> str:
    """Return a mean as text, with half the width of its 95 % interval if `spread` asks for it; sign '+' shows it."""
    half = interval(values) if spread else None
    return f'{statistics.mean(values):{sign}.{digits}f}' + ('' if half is None else f' ± {half:.{digits}f}')
