"""What a run of days meets, each as a run of the train script: options of precision, interruption, many steps."""
import os
import re
import resource
import runpy
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import timm
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
    '--sumix-original-pass no-grad --mixup-mode elem'])
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
    def run(name, *arguments, module=('-m', 'train_patch'), **kwargs):
        own = ('--batch-size', 50, '--log-interval', 10, '--no-aug', '--sumix', *arguments)
        command = [sys.executable, '-u', *module, train_script, *run_arguments(images, tmp_path, name), *own]
        log = open(tmp_path / f'{name}.log', 'w')  # noqa: SIM115
        return subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, 'OMP_NUM_THREADS': '1'}, **kwargs)
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


# truncates the checkpoint of the second epoch half way, and is killed
KILLED_WHILE_SAVING = '''
import os, runpy, signal, sys, torch
save = torch.save
def save_half(state, path, *args, **kwargs):
    save(state, path, *args, **kwargs)
    if isinstance(state, dict) and state.get("epoch") == 1:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
torch.save = save_half
del sys.argv[0]
sys.path.insert(0, os.getcwd())
runpy.run_module("train_patch", run_name="__main__", alter_sys=False)
'''


@pytest.mark.parametrize('saves', [False, True])
def test_a_run_killed_in_its_second_epoch_or_while_it_saves_that_loses_it_alone(start, finish, tmp_path, saves):
    (tmp_path / 'killer.py').write_text(KILLED_WHILE_SAVING)
    killed = start('killed', '--epochs', 2, module=(tmp_path / 'killer.py', 'train_patch'))
    while not saves and _position(tmp_path / 'killed.log') < (1, 20):
        assert killed.poll() is None, (tmp_path / 'killed.log').read_text()[-3000:]
        time.sleep(0.02)
    if not saves:
        killed.kill()
    assert killed.wait(600) == -9 and len(read_summary(tmp_path / 'killed')) == 1 + saves
    resumed = finish('resumed', '--epochs', 2, '--resume', tmp_path / 'killed' / 'last.pth.tar')
    assert resumed == finish('whole', '--epochs', 2)[1:]


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_leaves_the_one_before(start, finish, tmp_path):
    finish('first')
    last = tmp_path / 'first' / 'last.pth.tar'
    limit = last.stat().st_size // 2  # stands in for a full disk
    run = start(
        'full', '--epochs', 2, '--resume', last,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert run.wait(600) not in (0, -9) and 'Traceback' in (tmp_path / 'full.log').read_text()
    timm.create_model('test_resnet', num_classes=4, output_stride=8, checkpoint_path=str(last))


def test_checkpoints_that_do_not_fit_are_errors(launch, refused, tmp_path):
    last = launch('--sumix', '--sumix-gamma', 0.5, name='head') / 'last.pth.tar'
    cut = tmp_path / 'cut.pth.tar'
    cut.write_bytes(last.read_bytes()[:-1000])
    with pytest.raises(RuntimeError, match='corrupted'):
        launch('--sumix', '--epochs', 2, '--resume', cut)
    with pytest.raises(RuntimeError, match='Missing key'):
        launch('--sumix', '--epochs', 2, '--resume', last, model='test_efficientnet')
    refused('.*made with an uncertainty head, and this run has none', '--epochs', 2, '--resume', last)


@pytest.mark.parametrize('arguments', [('--sumix',), ('--cutmix', 1)])
def test_an_empty_class_is_left_out_as_timm_does(launch, image_folder, tmp_path, arguments):
    data = tmp_path / 'data'
    shutil.copytree(image_folder, data)
    for path in (data / 'train' / 'class3').iterdir():
        path.unlink()
    assert len(read_summary(launch(*arguments, data=data))) == 1


def test_an_image_that_cannot_be_read_is_named_and_nan_pixels_are_found(launch, image_folder, tmp_path, capfd):
    data = tmp_path / 'data'
    shutil.copytree(image_folder, data)
    broken = next((data / 'train' / 'class0').iterdir())
    broken.write_bytes(broken.read_bytes()[:40])
    launch('--sumix', data=data)
    assert f"{broken.name}'" in capfd.readouterr().err
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


def _memory_and_files(process):
    """Return a process's resident memory in MiB, and its number of open files."""
    with open(f'/proc/{process.pid}/status') as file:
        resident, = (int(line.split()[1]) for line in file if line.startswith('VmRSS'))
    return resident / 1024, len(os.listdir(f'/proc/{process.pid}/fd'))


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_five_thousand_steps_leak_neither_memory_nor_files_and_repeat(start, finish, tmp_path):
    arguments = ('--epochs', 10, '--batch-size', 4, '--workers', 4, '--sumix-preview', 5, '--checkpoint-hist', 1)
    run, seen = start('first', *arguments), {}
    while run.poll() is None:
        epoch, step = _position(tmp_path / 'first.log')
        if (epoch, step // 100) not in seen and 200 <= step < 400:  # far from validation and checkpoints
            seen[epoch, step // 100] = _memory_and_files(run)
        time.sleep(0.1)
    assert run.returncode == 0 and len(seen) >= 15
    assert read_summary(tmp_path / 'first') == finish('second', *arguments)
    memory, files = zip(*(value for (epoch, _), value in sorted(seen.items()) if epoch > 0))
    print(f'MiB {memory}, files {files}')
    half = len(memory) // 2
    assert np.median(memory[half:]) < 1.01 * np.median(memory[:half])
    assert np.median(files[half:]) == np.median(files[:half])  # a few are open for a moment
