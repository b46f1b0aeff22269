"""The package's recipes: found by name from anywhere, known to the scripts, and trained by."""
import re
import sys

import pytest
import yaml
from helpers import read_summary

from train_patch.config import RECIPES, find_recipe, recipe_names
from train_patch.patch import Patch
from train_patch.script import load_script

NAMES = recipe_names()


def test_there_are_those_of_the_papers_whose_headers_say_the_paper_the_command_and_how_many_images_a_step():
    assert [f'sumix/{name}.yaml' for name in ('convnext-t', 'deit-s', 'resnet18')] == NAMES
    for path in RECIPES.glob('*.yaml'):
        values, header = yaml.safe_load(path.read_text()), path.read_text()
        assert all(part in header for part in (
            'https://arxiv.org/abs/', f'-c sumix/{path.name} ', 'Printed top-1', '--nproc_per_node 8', 'summary.csv'))
        images = int(re.search(r'(\d+) images a step in all', header)[1])
        assert images == 8 * values['batch_size'] * values.get('grad_accum_steps', 1)


@pytest.mark.parametrize('given', [['-c', NAMES[0]], [f'--config={NAMES[0]}'], [f'-c{NAMES[0]}']])
def test_a_recipe_is_found_by_name_from_anywhere_after_a_file_of_the_users_own(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe(['--epochs', '2', *given, '--amp']) == [
        '--config', str(RECIPES / 'convnext-t.yaml'), '--epochs', '2', '--amp']
    assert find_recipe(['-c', 'own.yaml', '--amp']) == ['-c', 'own.yaml', '--amp'] and find_recipe([]) == []
    with pytest.raises(SystemExit, match="must be one of .*'sumix/deit-s.yaml', .* or a file, got 'sumix/deit.yaml'"):
        find_recipe(['-c', 'sumix/deit.yaml'])
    (tmp_path / 'sumix').mkdir()
    (tmp_path / NAMES[0]).write_text('sumix: true\n')
    assert find_recipe(given) == given


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
