"""The package's recipes: found by name from anywhere, known to the scripts, and trained by."""
import re
import sys

import pytest
import yaml
from conftest import ROOT
from helpers import read_summary

from train_patch.config import RECIPES, find_recipe, recipe_names
from train_patch.patch import Patch
from train_patch.script import load_script

NAMES = recipe_names()


def test_there_are_those_of_the_papers():
    assert [f'sumix/{name}.yaml' for name in ('convnext-t', 'deit-s', 'resnet18')] == NAMES
    for path in RECIPES.glob('*.yaml'):
        paper, command, printed, *_ = path.read_text().splitlines()
        assert 'https://arxiv.org/abs/' in paper and f'-c sumix/{path.name} ' in command and 'Printed top-1' in printed
        values = yaml.safe_load(path.read_text())
        header = ' '.join(line.removeprefix('# ') for line in path.read_text().splitlines() if line.startswith('#'))
        images = int(re.search(r'(\d+) images a step in all', header)[1])
        assert '--nproc_per_node 8' in command and 'summary.csv' in header and 'python train.py -c' in header
        assert images == 8 * values['batch_size'] * values.get('grad_accum_steps', 1)


@pytest.mark.parametrize('given', [['-c', NAMES[0]], [f'--config={NAMES[0]}'], [f'-c{NAMES[0]}']])
def test_a_recipe_is_found_by_name_from_anywhere(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe(['--epochs', '2', *given, '--amp']) == [
        '--config', str(RECIPES / 'convnext-t.yaml'), '--epochs', '2', '--amp']
    assert find_recipe(['-c', 'own.yaml', '--amp']) == ['-c', 'own.yaml', '--amp'] and find_recipe([]) == []


def test_a_file_of_the_users_own_comes_first_and_another_name_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'sumix').mkdir()
    (tmp_path / 'sumix' / 'resnet18.yaml').write_text('sumix: true\n')
    assert find_recipe(['-c', 'sumix/resnet18.yaml']) == ['-c', 'sumix/resnet18.yaml']
    with pytest.raises(SystemExit, match="must be one of .*'sumix/deit-s.yaml', .* or a file, got 'sumix/deit.yaml'"):
        find_recipe(['-c', 'sumix/deit.yaml'])


@pytest.mark.parametrize('name', NAMES)
def test_the_script_takes_every_setting_of_a_recipe(name, train_script, monkeypatch):
    values = yaml.safe_load((RECIPES / name.removeprefix('sumix/')).read_text())
    monkeypatch.setattr(sys, 'argv', ['train.py', *find_recipe(['-c', name])])
    monkeypatch.setenv('WORLD_SIZE', '8')  # timm repeats augmentations among processes alone
    module = load_script(train_script)
    Patch().put_into(module)
    assert set(values) <= {action.dest for action in module.parser._actions}
    args, _ = module._parse_args()
    assert {key: getattr(args, key) for key in values} == values and args.mixup_mode == 'pair'


@pytest.mark.parametrize('name', NAMES)
def test_a_model_trains_by_a_recipe(name, launch):
    folder = launch('-c', name, '--aug-repeats', 0, '--amp-dtype', 'bfloat16')
    row = read_summary(folder)[-1]
    assert 0 < row['train_sumix_lam'] <= 1 and 0 < row['train_loss'] < 20


def test_the_package_holds_them():
    config = (ROOT / 'setup.cfg').read_text()
    assert 'train_patch = recipes/*.yaml' in config.split('[options.package_data]')[1].split('[')[0]
