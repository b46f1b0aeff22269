"""The table of what each of timm's architectures gets."""
from ..common.markdown import table
from ..common.results import read_result


def zoo_table() -> str:
    """Return the map of one model of each architecture, and how it was tried."""
    lines = []
    for module, row in read_result('zoo')['architectures'].items():
        lines.append([
            f'`{module}`', f'`{row["model"]}`', *(' x '.join(map(str, row[key])) for key in ('size', 'map')),
            row['gets'], f'`{row["source"]}`', 'shapes' if row['meta'] else 'a step'])
    return table(['module', 'model', 'pixels', 'places', 'gets', 'from', 'tried'], lines)
