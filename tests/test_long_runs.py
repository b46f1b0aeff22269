"""What a run of days meets, each as a run of the train script: options of precision, interruption, many steps."""
import os
import re
import runpy
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import ROOT
from helpers import read_summary, run_arguments, write_image_folder

pytestmark = pytest.mark.slow
STEP = re.compile(r'Train: (\d+) \[\s*(\d+)/')


@pytest.fixture
def split(train_script):
    """Return a function that splits arguments, and skips the test if the script lacks one of the flags."""
    def run(arguments):
        known = runpy.run_path(train_script, run_name='train')['parser']._option_string_actions
        lacking = [flag for flag in re.findall(r'--(?!sumix)[a-z-]+', arguments) if flag not in known]
        if lacking:
            pytest.skip(f'the script has no {lacking}')
        return arguments.split()
    return run


@pytest.mark.parametrize('arguments', [
    '--amp --amp-dtype float16', '--amp --amp-dtype bfloat16', '--model-dtype bfloat16', '--torchcompile inductor',
    '--channels-last', '--grad-checkpointing', '--clip-grad 0.02 --clip-mode agc', '--opt adamw --layer-decay 0.7',
    '--head-init-scale 0.1 --head-init-bias -1', '--model-ema --model-ema-warmup', '--bce-loss --bce-target-thresh 0.2',
    '--opt muon', '--grad-accum-steps 2 --model-ema', '--in-chans 1 --input-size 1 64 64',
    '--sumix-gamma 0.5 --model-ema', '--sumix-gamma 0.5 --mixup-mode pair --amp --amp-dtype bfloat16',
    '--sumix-original-pass no-grad --mixup-mode elem', '--train-img-sizes 32 48 64'])
def test_a_run_trains_and_resumes(launch, split, arguments):
    model = 'test_vit' if 'grad-checkpointing' in arguments or 'muon' in arguments else 'test_resnet'
    kwargs = ('--model-kwargs', 'img_size=64') if model == 'test_vit' else ()
    flags = ('--sumix', '--input-size', 3, 64, 64, *split(arguments), *kwargs)
    first = launch(*flags, name='first', model=model)
    resumed = launch(*flags, '--epochs', 2, '--resume', first / 'last.pth.tar', name='resumed', model=model)
    row, = read_summary(resumed)
    assert row['epoch'] == 1 and 0 < row['train_loss'] < 20 and row['train_sumix_shift'] > 0


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """An ImageFolder of four classes: 500 training and 8 validation images each, 32 x 32."""
    return write_image_folder(tmp_path_factory.mktemp('many'), train=500, side=32)


@pytest.fixture
def start(train_script, images, tmp_path):
    """Return a function that starts a run in a process of its own, whose log is NAME.log in the test's folder."""
    def run(name, *arguments, module=('-m', 'train_patch')):
        own = ('--batch-size', 50, '--log-interval', 10, '--no-aug', '--sumix', *arguments)
        command = [sys.executable, '-u', *module, train_script, *run_arguments(images, tmp_path, name), *own]
        log = open(tmp_path / f'{name}.log', 'w')  # noqa: SIM115
        return subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, 'OMP_NUM_THREADS': '1'})
    return run


@pytest.fixture
def finish(start, tmp_path):
    """Return a function that makes a run and returns its summary."""
    def run(name, *arguments, **kwargs):
        assert start(name, *arguments, **kwargs).wait(1200) == 0, (tmp_path / f'{name}.log').read_text()[-3000:]
        return read_summary(tmp_path / name)
    return run


def _position(log):
    """Return (epoch, step) that a log has come to."""
    steps = STEP.findall(log.read_text())
    return tuple(map(int, steps[-1])) if steps else (0, 0)


def test_a_run_killed_in_its_second_epoch_loses_it_alone(start, finish, tmp_path):
    killed = start('killed', '--epochs', 2)
    while _position(tmp_path / 'killed.log') < (1, 20):
        assert killed.poll() is None, (tmp_path / 'killed.log').read_text()[-3000:]
        time.sleep(0.02)
    killed.kill()
    assert killed.wait(600) == -9 and len(read_summary(tmp_path / 'killed')) == 1
    resumed = finish('resumed', '--epochs', 2, '--resume', tmp_path / 'killed' / 'last.pth.tar')
    assert resumed == finish('whole', '--epochs', 2)[1:]


def test_an_empty_class_is_left_out_an_image_that_cannot_be_read_named_and_nan_pixels_are_found(
        launch, image_folder, tmp_path, capfd):
    data = tmp_path / 'data'
    shutil.copytree(image_folder, data)
    for path in (data / 'train' / 'class3').iterdir():
        path.unlink()
    broken = next((data / 'train' / 'class0').iterdir())
    broken.write_bytes(broken.read_bytes()[:40])
    assert len(read_summary(launch('--sumix', data=data))) == 1 and f"{broken.name}'" in capfd.readouterr().err
    launch('--sumix', '--mean', 'nan', 0.5, 0.5, name='nan')
    assert 'the classification loss was not finite, first in step 0' in capfd.readouterr().err


@pytest.mark.parametrize('arguments', [
    '--sync-bn', '--dist-bn broadcast', '--dist-bn reduce --model-ema', '--grad-accum-steps 2 --sumix-gamma 0.5',
    '--sumix-original-pass no-grad --mixup-prob 0.5 --mixup-mode pair',
    '--sync-bn --sumix-ratio similarity --sumix-original-pass no-grad --mixup-prob 0.5',
    '--torchcompile eager --mixup-prob 0.5 --mixup-mode elem'])
def test_two_processes_train(finish, split, arguments):
    if '--sync-bn' in arguments and not torch.cuda.is_available():
        pytest.skip('torch synchronises batch norm on GPUs alone')
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', '-m', 'train_patch']
    rows = finish('two', '--epochs', 2, *split(arguments), module=torchrun)
    assert len(rows) == 2 and all(row['train_sumix_shift'] > 0 for row in rows)


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_five_thousand_steps_leak_neither_memory_nor_files_and_repeat(start, finish, tmp_path):
    arguments = ('--epochs', 10, '--batch-size', 4, '--workers', 4, '--sumix-preview', 5, '--checkpoint-hist', 1)
    run, seen = start('first', *arguments), {}
    while run.poll() is None:
        epoch, step = _position(tmp_path / 'first.log')
        if (epoch, step // 100) not in seen and 200 <= step < 400:  # far from validation and checkpoints
            with open(f'/proc/{run.pid}/status') as file:
                resident, = (int(line.split()[1]) for line in file if line.startswith('VmRSS'))
            seen[epoch, step // 100] = resident / 1024, len(os.listdir(f'/proc/{run.pid}/fd'))  # MiB, open files
        time.sleep(0.1)
    assert run.returncode == 0 and len(seen) >= 15
    assert read_summary(tmp_path / 'first') == finish('second', *arguments)
    memory, files = zip(*(value for (epoch, _), value in sorted(seen.items()) if epoch > 0))
    print(f'MiB {memory}, files {files}')
    half = len(memory) // 2
    assert np.median(memory[half:]) < 1.01 * np.median(memory[:half])
    assert np.median(files[half:]) == np.median(files[:half])  # a few are open for a moment
