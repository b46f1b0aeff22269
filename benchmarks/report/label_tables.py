"""Tables of how true each label is."""
from typing import Any, Callable, Dict, List, Optional, Sequence

from ..common.markdown import mean, table
from ..common.results import read_result


def label_name(row: Dict[str, Any]) -> str:
    """Return a label's name with its strength, and the number of passes where there are two."""
    name = row['label'] if row['strength'] is None else f'{row["label"]} {row["strength"]:g}'
    return f'{name}, two passes' if row['passes'] == 2 else name


def fidelity_table(
        part: str, column: str, keep: Optional[Callable[[Dict[str, Any]], bool]] = None, name: str = 'fidelity') -> str:
    """Return Spearman / mean absolute error / calibration, labels down and the values of a column across.

    Args:
        part: Part of the result whose rows are taken.
        column: Key of the rows whose values stand across.
        keep: Which of these rows to take; None: all.
        name: Name of the committed result.
    """
    rows = [row for row in read_result(name)['rows'] if row['part'] == part and (keep is None or keep(row))]
    columns = list(dict.fromkeys(row[column] for row in rows))
    return table(['label', *columns], [
        [label, *(_scores([row for row in own if row[column] == value]) for value in columns)]
        for label, own in _by_label(rows).items()])


def _by_label(rows: List[Dict[str, Any]]) -> Dict[str, List[Dict[str, Any]]]:
    found: Dict[str, List[Dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(label_name(row), []).append(row)
    return found


def _scores(rows: List[Dict[str, Any]], scores: Sequence[str] = ('spearman', 'mae', 'calibration')) -> str:
    """Return 'mean / mean / ...' of the scores, '-' without rows."""
    return ' / '.join(mean([row[score] for row in rows], 3) for score in scores) if rows else '-'


NAMES = {  # of the labels of most interest
    'area': 'area (CutMix)',
    'evidence of the mixture': 'evidence of the mixed image alone, as TransMix reads attention',
    'combined 4': '`combined`, one pass',
    'combined 4, two passes': '`combined`, two passes',
    'evidence 1': '`evidence`, one pass',
    'evidence 1, two passes': '`evidence`, two passes',
    'feature 8': '`feature`, one pass',
    'feature 8, two passes': '`feature`, two passes',
    'similarity 2': "**`similarity`, the paper's kind and the default, one pass**",
    'similarity 2, two passes': '`similarity`, two passes',
    'released, two passes': "`released`, as the authors' code computes it",
    'central Gaussian': 'control: a fixed Gaussian in the middle of the image',
}
IN_SHORT = ('area', 'combined 4', 'evidence 1', 'evidence 1, two passes', 'similarity 2', 'central Gaussian')


def photographs_table(in_short: bool = False) -> str:
    """Return Spearman / mean absolute error of the labels of most interest, by what the photographs hold.

    Args:
        in_short: The error alone, of a few labels, by the size of the objects.
    """
    found = _by_label(read_result('fidelity-photographs')['rows'])
    names, scores = (IN_SHORT, ['mae']) if in_short else (NAMES, ['spearman', 'mae'])
    kinds = [kind for kind in dict.fromkeys(row['images'] for row in found['area']) if kind.isdigit() or not in_short]
    return table(['label', *(f'{kind} pixels' if in_short else kind for kind in kinds)], [
        [NAMES[name], *(_scores([row for row in found[name] if row['images'] == kind], scores) for kind in kinds)]
        for name in names if name in found])


def demo_table() -> str:
    """Return the demo's models and labels."""
    names = ['training', 'top-1 %', 'NLL', 'ECE %', 'label', 'Spearman with the true share', 'mean absolute error']
    return table(names, [
        [row['training'], f'{row["top1"]:.1f}', f'{row["nll"]:.3f}', f'{row["ece"]:.1f}', *(
            ['-'] * 3 if row['label'] is None else [row['label'], f'{row["spearman"]:.3f}', f'{row["mae"]:.3f}'])]
        for row in read_result('demo-seed0')['rows']])
