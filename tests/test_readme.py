"""What README.md, CONTRIBUTING.md and the docs say: examples run, commands are accepted, links lead somewhere."""
import argparse
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

import train_patch.flags
from timm_sumix.correction import RATIOS
from timm_sumix.mixing.policies import POLICIES
from timm_sumix.options import PRESETS
from train_patch.__main__ import wants_sumix
from train_patch.flags import add_flags
from train_patch.patch import Patch
from train_patch.script import load_script

PAGES = [
    path for path in (
        ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'CHANGELOG.md', ROOT / 'benchmarks' / 'README.md',
        *sorted((ROOT / 'docs').glob('*.md')))
    if path.exists()]


def _blocks(page, language):
    return re.findall(rf'^```{language}\n(.*?)^```$', page.read_text(), flags=re.DOTALL | re.MULTILINE)


def _commands(page, module):
    """Return the arguments of each `python -m module` or `torchrun ... -m module` in a page's shell blocks."""
    lines = [line for block in _blocks(page, 'bash') for line in block.splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if f'-m {module}' in line]
    return [parts[parts.index('-m') + 1:] for parts in found]


def _name(value):
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else ' '.join(value[1:])


@pytest.mark.parametrize('page', [page for page in PAGES if _blocks(page, 'python')], ids=_name)
def test_python_examples_run_as_pasted(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    namespace = {'__name__': 'example'}
    for number, block in enumerate(_blocks(page, 'python')):  # later examples go on from earlier ones
        exec(compile(block, f'{page.name}, example {number + 1}', 'exec'), namespace)


def test_the_first_page_has_an_example_and_commands():
    readme = ROOT / 'README.md'
    assert _blocks(readme, 'python') and len(_commands(readme, 'train_patch')) >= 2
    assert len(readme.read_text().splitlines()) <= 85 and len(readme.read_text().split()) <= 800


def test_all_pages_together_are_short():
    pages = [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]
    assert sum(len(page.read_text().split()) for page in pages) < 15_000


def test_each_picture_is_on_a_page():
    pages = ''.join(page.read_text() for page in PAGES)
    assert all(f'{path.name})' in pages for path in (ROOT / 'docs').glob('*.png'))


@pytest.mark.parametrize(
    'page, command', [(page, command) for page in PAGES for command in _commands(page, 'train_patch')], ids=_name)
def test_commands_are_accepted_by_the_launcher(page, command, monkeypatch, tmp_path, train_script, capsys):
    assert command[:2] == ['train_patch', 'train.py']
    arguments = command[2:]
    if '-c' in arguments:  # the page's own example of such a file
        recipe = tmp_path / 'recipe.yaml'
        recipe.write_text(_blocks(page, 'yaml')[0])
        arguments[arguments.index('-c') + 1] = str(recipe)
    assert wants_sumix(arguments)
    monkeypatch.setattr(sys, 'argv', [train_script, *arguments])
    module = load_script(train_script)
    patch = Patch()
    patch.put_into(module)
    if '--kd-model-name' in arguments and '--kd-model-name' not in module.parser._option_string_actions:
        pytest.skip('this script has no distillation, see --train-script')
    monkeypatch.setattr(train_patch.flags.os.path, 'isdir', lambda path: True)  # of masks
    if '--help' in arguments:
        with pytest.raises(SystemExit):
            module._parse_args()
        assert '--sumix-ratio' in capsys.readouterr().out
        return
    args, _ = module._parse_args()
    assert args.sumix and args.data_dir == '/imagenet'
    assert patch.settings.options.ratio in RATIOS


@pytest.mark.parametrize('page', [page for page in PAGES if _blocks(page, 'yaml')], ids=_name)
def test_keys_of_yaml_examples_are_the_scripts(page, train_script):
    module = load_script(train_script)
    Patch().put_into(module)
    known = {action.dest for action in module.parser._actions}
    for block in _blocks(page, 'yaml'):
        assert set(yaml.safe_load(block)) <= known


@pytest.mark.parametrize('page', PAGES, ids=_name)
def test_named_modules_and_make_targets_exist(page):
    for module in re.findall(r'python -m ((?:benchmarks|train_patch)[\w.]*)', page.read_text()):
        assert module == 'benchmarks.NAME' or importlib.util.find_spec(module.rstrip('.')), module
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), flags=re.MULTILINE)
    named = re.findall(r'(?:^|`)make ([\w-]+)', page.read_text(), flags=re.MULTILINE)
    assert set(named) <= set(targets)


@pytest.mark.parametrize('page', PAGES, ids=_name)
def test_a_download_that_is_not_there_leaves_no_file(page):
    downloads = [line for block in _blocks(page, 'bash') for line in block.splitlines() if line.startswith('curl')]
    assert all(line.startswith('curl -f') for line in downloads)


def _anchors(page):
    headings = re.findall(r'^#+ (.*)$', page.read_text(), flags=re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=_name)
def test_relative_links_and_pictures_lead_to_files(page):
    for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if link.startswith(('https://', 'http://')):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_the_docs_describe_every_flag_option_ratio_and_policy():
    docs = ROOT / 'docs'
    parser = argparse.ArgumentParser(add_help=False)
    add_flags(parser)
    launcher, options, policies = ((docs / f'{name}.md').read_text() for name in ('launcher', 'options', 'policies'))
    for action in parser._actions:
        assert f'| `{action.option_strings[0]}` |' in launcher
        option = action.dest.removeprefix('sumix_')
        if action.choices and option != 'preset':
            assert f'| `{option}` |' in options
    for name in (*RATIOS, *PRESETS):
        assert f'| `{name}` |' in options
    for name in POLICIES:
        card, = re.findall(rf'^\| `{name}` \|.*$', policies, flags=re.MULTILINE)
        for option in vars(POLICIES[name]()):
            assert option in card or option == 'minmax'


def test_the_map_names_every_module():
    page = (ROOT / 'docs' / 'architecture.md').read_text()
    for folder in ('timm_sumix', 'train_patch'):
        for path in (ROOT / folder).rglob('*.py'):
            assert path.name in page or path.parent.name == 'policies', path
