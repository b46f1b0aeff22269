"""The blocks of the pages: what stands between the marks <!-- NAME --> and <!-- end -->."""
import re
from typing import Any, Callable, Dict, List

from ..common.results import read_result
from ..labels.arms import UNMIXING
from .label_tables import demo_table, fidelity_table, labels_in_short, photographs_table, probes_table
from .model_tables import (
    comparison_table,
    controls_table,
    corruptions_table,
    gains_table,
    half_unmixed_table,
    models_in_short,
    robustness_table,
    settings_table,
    temperature_table,
    test_sets_table,
    unmixing_in_short,
    wall_time,
)
from .runs import COMPARISONS
from .speed_tables import (
    collate_ratio,
    growth_table,
    loss_table,
    mixing_table,
    policies_table,
    steps_in_short,
    steps_table,
)
from .zoo_table import zoo_table


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
    'fidelity by size': lambda: fidelity_table('scene', 'scene', lambda row: row['scene'].startswith('share ')),
    'fidelity of scenes': lambda: fidelity_table('scene', 'scene', lambda row: not row['scene'].startswith('share ')),
    'fidelity of policies': lambda: fidelity_table('policies', 'policy'),
    'fidelity by strength': lambda: fidelity_table('strengths', 'scene'),
    'fidelity by mode': lambda: fidelity_table('modes', 'mode'),
    'photographs': photographs_table,
    'photographs in full': lambda: fidelity_table('photographs', 'images', name='fidelity-photographs'),
    'fidelity by epoch': lambda: fidelity_table('epochs', 'epoch'),
    'judges': probes_table,
    'comparison': lambda: comparison_table('placed-14'),
    'settings': settings_table,
    'gains': gains_table,
    'unmixing': lambda: test_sets_table('unmixing', UNMIXING),
    **{name: lambda name=name: test_sets_table(name) for name in ('seeds', 'larger', 'transformer')},
    **{f'{what} {setting}': lambda compared=compared, setting=setting: controls_table(setting, compared)
       for what, compared in COMPARISONS.items()
       for setting in ('placed-14', 'placed-emoji')},
    'half unmixed': half_unmixed_table,
    'temperature': temperature_table,
    **{f'wall time {name}': lambda name=name: wall_time(name)
       for name in ('seeds', 'controls', 'larger', 'transformer')},
    'labels in short': labels_in_short,
    'models in short': models_in_short,
    'unmixing in short': unmixing_in_short,
    'demo': demo_table,
    'steps': steps_table,
    'steps of two processes': lambda: steps_table('speed-two-processes'),
    'steps on a GPU': lambda: steps_table('gpu'),
    'growth on a GPU': lambda: growth_table('gpu'),
    'steps in short': steps_in_short,
    'growth': growth_table,
    'loss': loss_table,
    'mixing': mixing_table,
    'policies': policies_table,
    'collate': collate_ratio,
    'zoo': zoo_table,
    'robustness': robustness_table,
    'robustness of the default': lambda: robustness_table('robustness-default'),
    'corruptions': corruptions_table,
    **{
        f'made by {name}': lambda name=name: made_by(name)
        for name in (
            'fidelity', 'fidelity-photographs', 'unmixing', 'comparison', 'seeds',
            'controls', 'larger', 'transformer',
            'temperature', 'robustness', 'robustness-default', 'speed', 'speed-two-processes', 'gpu',
            'zoo')},
}


def fill(page: str) -> str:
    """Return the page with every block made anew; ValueError if it names one that does not exist."""
    def block(match):
        if match[1] not in BLOCKS:
            raise ValueError(f'blocks must be among {list(BLOCKS)}, got {match[1]!r}')
        return f'<!-- {match[1]} -->\n\n{BLOCKS[match[1]]()}\n\n<!-- end -->'

    return re.sub(r'<!-- ([\w -]+?) -->\n.*?<!-- end -->', block, page, flags=re.DOTALL)
