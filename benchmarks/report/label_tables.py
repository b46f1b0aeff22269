"""Tables of how true each label is."""
from typing import Any, Dict, List

from ..common.markdown import table
from ..common.results import read_result

NAMES = {  # labels of most interest, by label, strength and number of passes
    ('area', None, 1): 'area (CutMix)',
    ('similarity', 2., 1): '**`similarity`, the default**',
    ('combined', 4., 1): '`combined`',
    ('evidence', 1., 1): '`evidence`',
    ('evidence', 1., 2): '`evidence`, two passes',
    ('released', None, 2): "`released`, the authors' code",
    ('evidence of the mixture', None, 0): 'evidence of the mixture alone',
    ('snapmix', None, 0): 'SnapMix',
    ('transmix', None, 0): 'TransMix',
    ('attention of originals', None, 0): 'attention, of the unmixed images',
    ('central Gaussian', None, 0): 'control: a Gaussian in the middle of the image',
}


def fidelity_table(part: str, column: str, name: str = 'fidelity') -> str:
    """Return Spearman / mean absolute error, labels down and the values of a column across.

    Args:
        part: Part of the result whose rows are taken.
        column: Key of the rows whose values stand across.
        name: Name of the committed result.
    """
    found: Dict[Any, Dict[str, str]] = {}
    rows: List[Dict[str, Any]] = [row for row in read_result(name)['rows'] if row['part'] == part]
    for row in rows:
        label = row['label'], row['strength'], row['passes']
        found.setdefault(label, {})[row[column]] = f'{row["spearman"]:.3f} / {row["mae"]:.3f}'
    columns = list(dict.fromkeys(row[column] for row in rows))
    return table(['label', *columns], [
        [text, *(found[label].get(value, '-') for value in columns)]
        for label, text in NAMES.items() if label in found])


def demo_table() -> str:
    """Return the demo's models and labels."""
    names = ['training', 'top-1 %', 'NLL', 'ECE %', 'label', 'Spearman with the true share', 'mean absolute error']
    return table(names, [
        [row['training'], f'{row["top1"]:.1f}', f'{row["nll"]:.3f}', f'{row["ece"]:.1f}', *(
            ['-'] * 3 if row['label'] is None else [row['label'], f'{row["spearman"]:.3f}', f'{row["mae"]:.3f}'])]
        for row in read_result('demo-seed0')['rows']])
