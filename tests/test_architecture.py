"""Which file may import which: the rules as tables, checked against the source."""
import ast
from collections import defaultdict

import pytest
from conftest import ROOT

PACKAGES = ('timm_sumix', 'train_patch', 'benchmarks')
QUESTIONS = ('tables', 'fidelity', 'comparison', 'speed', 'report', 'demo', 'zoo', 'problem')
MOST_LINES = 260

# part: the parts of the same package that it may import; a folder is one part
LIBRARY = {
    'region': (),
    'target': ('region',),
    'compat': (),
    'maps': (),
    'masks': ('masked_transform',),
    'masked_transform': (),
    'preview': ('target',),
    'metrics': ('target',),
    'correction': ('region', 'target'),
    'mixing': ('region', 'target'),
    'attention': ('correction', 'maps', 'region'),
    'options': ('correction',),
    'passes': ('attention', 'compat', 'correction', 'maps', 'options', 'region', 'target'),
    'loss': ('compat', 'correction', 'options', 'target'),
    'task': ('compat', 'loss', 'metrics', 'mixing', 'options', 'passes', 'target'),
    'distillation': ('mixing', 'options', 'target', 'task'),
    '__init__': ('correction', 'distillation', 'loss', 'mixing', 'options', 'passes', 'target', 'task'),
}
BENCHMARKS = {
    '__init__': (),
    'common': (),
    'train': (),
    'models': (),
    'launcher': ('models',),
    'data': ('common',),
    'labels': ('data', 'common'),
    'training': ('labels', 'models', 'data', 'common'),
    'runs': ('common',),
    **dict.fromkeys(QUESTIONS, ('labels', 'training', 'runs', 'models', 'data', 'common')),
    'demo': ('problem', 'labels', 'training', 'data', 'common'),  # it draws the problem's picture
}
LAYERS = {'timm_sumix': LIBRARY, 'benchmarks': BENCHMARKS}
# package: the packages of this project that it may import
ACROSS = {'timm_sumix': (), 'train_patch': ('timm_sumix',), 'benchmarks': ('timm_sumix', 'train_patch')}
TRAINING_CODE = ('torch', 'torchvision', 'torchmetrics', 'timm', 'timm_sumix')


def _files():
    """Return {module: path} of the three packages; a package's own module is its __init__."""
    return {
        '.'.join(path.relative_to(ROOT).with_suffix('').parts): path
        for package in PACKAGES for path in sorted((ROOT / package).rglob('*.py'))}


FILES = _files()
TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}


def _module(name):
    """Return the file's name of an imported one, or the imported name itself if it is none of this project's."""
    return name if name in FILES else f'{name}.__init__' if f'{name}.__init__' in FILES else name


def _imports(module):
    """Return all that a file imports, inside functions too, relative imports resolved."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {_module(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module.split('.')[:-node.level] if node.level else []
            name = '.'.join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = _module(f'{name}.{alias.name}')
                found.add(submodule if submodule in FILES else _module(name))
    return found - {module}


IMPORTS = {module: _imports(module) for module in FILES}


def _part(module):
    """Return (package, part) of a file: its folder, or the file where it lies in no folder of its own."""
    package, part, *_ = module.split('.')
    return package, part


def _arrows(package):
    """Return (importing file, imported file) where both are of one package and of different parts of it."""
    return [
        (module, other) for module, imported in IMPORTS.items() for other in imported
        if other in FILES and _part(module)[0] == _part(other)[0] == package and _part(module) != _part(other)]


def _circle(graph):
    """Return the nodes of a circle in {node: nodes}, or None."""
    state, path = {}, []

    def visit(node):
        if state.get(node) == 'done':
            return None
        if node in path:
            return [*path[path.index(node):], node]
        path.append(node)
        for other in sorted(graph.get(node, ())):
            found = visit(other)
            if found:
                return found
        state[path.pop()] = 'done'
        return None

    return next((found for found in map(visit, sorted(graph)) if found), None)


def test_a_circle_is_found():
    assert _circle({'a': {'b'}, 'b': {'c'}, 'c': {'b'}}) == ['b', 'c', 'b'] and _circle({'a': {'b'}, 'b': ()}) is None


def test_imports_are_found_in_functions_and_relative_ones_resolved():
    assert 'timm_sumix.correction.base' in IMPORTS['timm_sumix.correction.formula']
    assert 'timm_sumix.target' in IMPORTS['timm_sumix.correction.base']
    assert 'benchmarks.models' in IMPORTS['benchmarks.training'] and 'sklearn.datasets' in IMPORTS[
        'benchmarks.data.objects']  # inside a function
    assert 'benchmarks.comparison.run' in IMPORTS['benchmarks.comparison.__main__']


def test_there_is_no_circle_among_files():
    graph = {module: {other for other in imported if other in FILES} for module, imported in IMPORTS.items()}
    assert _circle(graph) is None


@pytest.mark.parametrize('level', ['packages', 'parts'])
def test_there_is_no_circle_among_folders(level):
    graph = defaultdict(set)
    for module, imported in IMPORTS.items():
        for other in imported & set(FILES):
            first, second = (_part(name)[:1] if level == 'packages' else _part(name) for name in (module, other))
            if first != second:
                graph[first].add(second)
    assert _circle(graph) is None


@pytest.mark.parametrize('package', list(ACROSS))
def test_packages_import_only_what_they_stand_on(package):
    wrong = [
        f'{module} -> {other}' for module, imported in IMPORTS.items() if module.split('.')[0] == package
        for other in sorted(imported)
        if other.split('.')[0] in PACKAGES and other.split('.')[0] not in (package, *ACROSS[package])]
    assert not wrong


@pytest.mark.parametrize('package, part', [(package, part) for package, layer in LAYERS.items() for part in layer])
def test_parts_import_only_what_is_below_them(package, part):
    allowed = LAYERS[package][part]
    wrong = [
        f'{module} -> {other}' for module, other in _arrows(package)
        if _part(module)[1] == part and _part(other)[1] not in allowed]
    assert not wrong


@pytest.mark.parametrize('package', list(LAYERS))
def test_every_part_has_its_rule(package):
    assert {_part(module)[1] for module in FILES if _part(module)[0] == package} == set(LAYERS[package])


def test_the_report_needs_no_training_code():
    seen, todo = set(), [module for module in FILES if module.startswith('benchmarks.report.')]
    while todo:
        module = todo.pop()
        seen.add(module)
        packages = [  # importing a file runs the __init__ of its folders first
            f'{".".join(module.split(".")[:depth])}.__init__' for depth in range(1, module.count('.') + 1)]
        todo += [other for other in {*IMPORTS[module], *packages} if other in FILES and other not in seen]
    wrong = [
        f'{module} -> {other}' for module in sorted(seen) for other in sorted(IMPORTS[module])
        if other.split('.')[0] in TRAINING_CODE]
    assert len(seen) > 8 and not wrong


def test_matplotlib_is_set_up_in_one_place():
    users = [module for module, imported in IMPORTS.items() if any(name.startswith('matplotlib') for name in imported)]
    assert users == ['benchmarks.common.figures']


@pytest.mark.parametrize('path', FILES.values(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_too_long_to_read(path):
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES


def test_policies_are_used_by_their_base_class_alone():
    wrong = [
        f'{module}:{node.lineno}' for module, tree in TREES.items() if module.startswith('timm_sumix')
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'hasattr'
        and ('.mixing.' in module or 'policy' in ast.unparse(node.args[0]))]
    assert not wrong
