"""The blocks of the pages: what stands between the marks <!-- NAME --> and <!-- end -->."""
import re
from functools import partial
from typing import Any, Callable, Dict, List

from ..common.results import read_result
from . import label_tables as labels
from . import model_tables as models
from . import real_tables as real
from . import speed_tables as speed


def made_by(name: str) -> str:
    """Return a line that says how a result was made."""
    run = read_result(name)
    versions = ', '.join(f'{package} {version}' for package, version in run['versions'].items())
    path, commands = f'benchmarks/results/{name}.json', _as_list(run['command'])
    made = (
        f'`{commands[0]}`' if len(commands) == 1
        else f'{len(commands)} calls of `{" ".join(commands[0].split()[:3])}`, listed in the file')
    seeds, commits = (', '.join(map(str, _as_list(run[key]))) for key in ('seed', 'commit'))
    return f'Made by {made}, seeds {seeds}, commit {commits}, {versions}, {run["device"]}: [{path}](../{path})'


def _as_list(value: Any) -> List[Any]:
    return value if isinstance(value, list) else [value]


BLOCKS: Dict[str, Callable[[], str]] = {
    'fidelity of scenes': partial(labels.fidelity_table, 'scene', 'scene'),
    'fidelity of transformers': partial(labels.fidelity_table, 'scene', 'scene', 'fidelity-transformers'),
    'real in short': real.real_in_short,
    'real on page one': real.real_on_page_one,
    'verdict': real.verdict_table,
    'control': real.control_table,
    'real': real.real_table,
    'strengths': real.strengths_table,
    'truth': real.truth_table,
    'photographs': partial(labels.fidelity_table, 'photographs', 'images', 'fidelity-photographs'),
    'demo': labels.demo_table,
    **{name: partial(models.settings_table, name)
       for name in ('unmixing', 'common', 'fine-tuning')},
    'transformers': models.transformers_table,
    'common in short': models.common_in_short,
    'distillation': models.distillation_table,
    'steps': speed.steps_table,
    'steps on a GPU': partial(speed.steps_table, 'gpu'),
    'steps in short': speed.steps_in_short,
    'mixing': speed.mixing_table,
    'policies': speed.policies_table,
    'zoo': speed.zoo_table,
    'zoo in numbers': speed.zoo_count,
}
MADE_BY = 'made by '  # and the name of a result


def make_block(name: str) -> str:
    """Return what a block holds.

    Args:
        name: One of BLOCKS, or MADE_BY and the name of a committed result.

    Raises:
        ValueError: If there is no such block.
    """
    if name in BLOCKS:
        return BLOCKS[name]()
    if name.startswith(MADE_BY):
        return made_by(name.removeprefix(MADE_BY))
    raise ValueError(f'blocks must be among {[*BLOCKS, MADE_BY]}, got {name!r}')


def fill(page: str) -> str:
    """Return the page with every block made anew; ValueError if it names one that does not exist."""
    return re.sub(
        r'<!-- ([\w -]+?) -->\n.*?<!-- end -->',
        lambda match: f'<!-- {match[1]} -->\n\n{make_block(match[1])}\n\n<!-- end -->', page, flags=re.DOTALL)
