"""What is released: the built wheel holds what a user needs, installs, and trains by one flag."""
import os
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


def _run(*arguments, **options):
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, **options)
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-2000:]
    return result.stdout + result.stderr


@pytest.fixture(scope='module')
def dist(tmp_path_factory):
    folder = tmp_path_factory.mktemp('dist')
    _run('-m', 'build', '--outdir', str(folder), str(ROOT))
    return folder


def test_wheel_and_source_pass_the_check_of_the_package_index(dist):
    assert _run('-m', 'twine', 'check', '--strict', *map(str, dist.iterdir())).count('PASSED') == 2


def test_the_wheel_holds_recipes_and_types_and_no_benchmarks_or_tests(dist):
    names = zipfile.ZipFile(next(dist.glob('*.whl'))).namelist()
    recipes = sorted(path.name for path in (ROOT / 'train_patch' / 'recipes').glob('*.yaml'))
    assert sorted(name.rpartition('/')[2] for name in names if 'recipes/' in name) == recipes and recipes
    assert 'timm_sumix/py.typed' in names
    assert {name.partition('/')[0].partition('-')[0] for name in names} == {'timm_sumix', 'train_patch'}


def test_installed_from_the_wheel_one_flag_trains(dist, image_folder, tmp_path, train_script):
    site = tmp_path / 'site'
    _run('-m', 'pip', 'install', '--quiet', '--no-deps', '--target', str(site), str(next(dist.glob('*.whl'))))
    environment = {**os.environ, 'PYTHONPATH': str(site)}
    where = _run('-c', 'import train_patch; print(train_patch.__file__)', env=environment, cwd=tmp_path)
    assert where.startswith(str(site))
    arguments = (
        '--model test_resnet --num-classes 4 --img-size 96 --batch-size 4 --epochs 1 --workers 1 --device cpu '
        f'--cutmix 1.0 --sumix --data-dir {image_folder} --output {tmp_path / "out"}')
    log = _run('-m', 'train_patch', train_script, *arguments.split(), env=environment, cwd=tmp_path)
    assert 'SUMix: epoch 0' in log and list((tmp_path / 'out').rglob('last.pth.tar'))
