"""Fixtures: a tiny image folder, running a command or a train script in this process."""
import logging
import os
import runpy
import sys
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')  # before torch: for models this small, threads only wait for each other

import pytest
import torch
from helpers import run_arguments, write_image_folder

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser):
    parser.addoption(
        '--train-script', default=str(ROOT / 'benchmarks' / 'train.py'),
        help='train script that the launcher is tested on, such as that of a timm release')


@pytest.fixture(autouse=True)
def as_in_a_process_of_its_own(monkeypatch):
    """Seed what is drawn, and put the main module back afterwards: the launcher puts the train script in its place."""
    torch.manual_seed(0)
    monkeypatch.setitem(sys.modules, '__main__', sys.modules['__main__'])


@pytest.fixture(scope='session')
def train_script(request):
    return request.config.getoption('--train-script')


@pytest.fixture(scope='session')
def image_folder(tmp_path_factory):
    """An ImageFolder of four classes: 16 training and 8 validation images each, 40 x 40."""
    return write_image_folder(tmp_path_factory.mktemp('images'), train=16, side=40)


@pytest.fixture
def launch(monkeypatch, image_folder, train_script, tmp_path):
    """Return a function that runs the launcher in this process and returns the run's output folder."""
    torch._dynamo.reset()  # a run is a process of its own: nothing was compiled before, for other sizes

    def run(*arguments, name='run', model='test_resnet', script=train_script, data=image_folder):
        argv = ['train_patch', str(script), *run_arguments(data, tmp_path, name, model), *map(str, arguments)]
        monkeypatch.setattr(sys, 'argv', argv)
        monkeypatch.setattr(sys, 'path', [str(ROOT), *sys.path])
        monkeypatch.setattr(logging.root, 'handlers', list(logging.root.handlers))  # the script adds its own
        runpy.run_module('train_patch', run_name='__main__')
        return tmp_path / name

    return run


@pytest.fixture
def refused(launch, capfd):
    """Return a function that asserts that a run ends before training, in one line of the launcher that matches."""
    def run(message, *arguments, **kwargs):
        capfd.readouterr()
        with pytest.raises(SystemExit, match=rf'\Atrain_patch: {message}'):
            launch('--sumix', *arguments, **kwargs)
        log = capfd.readouterr().err
        assert 'Train: 0' not in log and 'usage:' not in log
    return run


@pytest.fixture
def run_main(monkeypatch):
    """Return a function that runs a module's main() with arguments of the command line."""
    def run(module, *arguments):
        monkeypatch.setattr(sys, 'argv', [module.__name__, *map(str, arguments)])
        module.main()

    return run
