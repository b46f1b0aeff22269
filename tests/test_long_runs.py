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
from helpers import read_summary, write_image_folder

pytestmark = pytest.mark.slow
STEP = re.compile(r'Train: (\d+) \[\s*(\d+)/')


@pytest.mark.parametrize('arguments', [
    '--amp --amp-dtype float16', '--amp --amp-dtype bfloat16', '--model-dtype bfloat16', '--torchcompile inductor',
    '--channels-last', '--grad-checkpointing', '--clip-grad 0.02 --clip-mode agc', '--opt adamw --layer-decay 0.7',
    '--head-init-scale 0.1 --head-init-bias -1', '--model-ema --model-ema-warmup', '--bce-loss --bce-target-thresh 0.2',
    '--opt muon', '--grad-accum-steps 2 --model-ema', '--in-chans 1 --input-size 1 64 64',
    '--sumix-gamma 0.5 --model-ema', '--sumix-gamma 0.5 --mixup-mode pair --amp --amp-dtype bfloat16',
    '--sumix-original-pass no-grad --mixup-mode elem'])
def test_a_run_trains_and_resumes(launch, train_script, arguments):
    parser = runpy.run_path(train_script, run_name='train')['parser']
    known = [option for action in parser._actions for option in action.option_strings]
    lacking = [
        word for word in arguments.split()
        if word.startswith('--') and not word.startswith('--sumix') and word not in known]
    if lacking:
        pytest.skip(f'the script has no {lacking}')
    flags = ('--sumix', '--input-size', 3, 64, 64, *arguments.split())
    model = 'test_vit' if 'grad-checkpointing' in arguments or 'muon' in arguments else 'test_resnet'
    kwargs = ('--model-kwargs', 'img_size=64') if model == 'test_vit' else ()
    first = launch(*flags, *kwargs, name='first', model=model)
    resumed = launch(
        *flags, *kwargs, '--epochs', 2, '--resume', first / 'last.pth.tar', name='resumed', model=model)
    row, = read_summary(resumed)
    assert row['epoch'] == 1 and 0 < row['train_loss'] < 20 and row['train_sumix_shift'] > 0


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """An ImageFolder of four classes: 500 training and 8 validation images each, 32 x 32."""
    return write_image_folder(tmp_path_factory.mktemp('many'), train=500, side=32)


def _start(script, images, out, name, *arguments, module=('-m', 'train_patch'), **kwargs):
    """Start a run in a process of its own; its log is OUT/NAME.log."""
    command = [
        sys.executable, '-u', *module, script, '--data-dir', images, '--model', 'test_resnet', '--num-classes', 4,
        '--warmup-epochs', 0, '--lr', 0.01, '--device', 'cpu', '--output', out, '--experiment', name, '--input-size',
        3, 32, 32, '--model-kwargs', 'output_stride=8', '--log-interval', 10, '--no-aug', '--sumix', *arguments]
    log = open(out / f'{name}.log', 'w')  # noqa: SIM115
    return subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
        env={**os.environ, 'OMP_NUM_THREADS': '1'}, **kwargs)


def _position(log):
    """Return (epoch, step) that a log has come to."""
    steps = STEP.findall(log.read_text())
    return tuple(map(int, steps[-1])) if steps else (0, 0)


def test_a_killed_run_loses_its_epoch_alone(train_script, images, tmp_path):
    arguments = ('--epochs', 3, '--batch-size', 50, '--workers', 1)
    assert _start(train_script, images, tmp_path, 'whole', *arguments).wait(600) == 0
    killed = _start(train_script, images, tmp_path, 'killed', *arguments)
    while _position(tmp_path / 'killed.log') < (1, 20):
        assert killed.poll() is None, (tmp_path / 'killed.log').read_text()[-3000:]
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert len(read_summary(tmp_path / 'killed')) == 1  # it was in its second epoch
    resumed = _start(
        train_script, images, tmp_path, 'resumed', *arguments, '--resume', tmp_path / 'killed' / 'last.pth.tar')
    assert resumed.wait(600) == 0, (tmp_path / 'resumed.log').read_text()[-3000:]
    assert read_summary(tmp_path / 'resumed') == read_summary(tmp_path / 'whole')[1:]


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


def test_a_run_killed_while_it_saves_resumes_from_the_epoch_before(train_script, images, tmp_path):
    (tmp_path / 'killer.py').write_text(KILLED_WHILE_SAVING)
    arguments = ('--epochs', 2, '--batch-size', 50, '--workers', 1)
    whole = _start(train_script, images, tmp_path, 'whole', *arguments)
    killed = _start(
        train_script, images, tmp_path, 'killed', *arguments, module=(tmp_path / 'killer.py', 'train_patch'))
    assert whole.wait(600) == 0 and killed.wait(600) == -9, (tmp_path / 'killed.log').read_text()[-3000:]
    resumed = _start(
        train_script, images, tmp_path, 'resumed', *arguments, '--resume', tmp_path / 'killed' / 'last.pth.tar')
    assert resumed.wait(600) == 0, (tmp_path / 'resumed.log').read_text()[-3000:]
    assert read_summary(tmp_path / 'resumed') == read_summary(tmp_path / 'whole')[1:]


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_leaves_the_one_before(train_script, images, tmp_path):
    arguments = ('--batch-size', 50, '--workers', 1)
    first = _start(train_script, images, tmp_path, 'first', *arguments, '--epochs', 1)
    assert first.wait(600) == 0
    last = tmp_path / 'first' / 'last.pth.tar'
    limit = last.stat().st_size // 2  # stands in for a full disk
    run = _start(
        train_script, images, tmp_path, 'full', *arguments, '--epochs', 2, '--resume', last,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert run.wait(600) not in (0, -9) and 'Traceback' in (tmp_path / 'full.log').read_text()
    timm.create_model('test_resnet', num_classes=4, output_stride=8, checkpoint_path=str(last))


def test_checkpoints_that_do_not_fit_are_errors(launch, tmp_path, capfd):
    last = launch('--sumix', '--sumix-gamma', 0.5, name='head') / 'last.pth.tar'
    cut = tmp_path / 'cut.pth.tar'
    cut.write_bytes(last.read_bytes()[:-1000])
    with pytest.raises(RuntimeError, match='corrupted'):
        launch('--sumix', '--epochs', 2, '--resume', cut)
    with pytest.raises(RuntimeError, match='Missing key'):
        launch('--sumix', '--epochs', 2, '--resume', last, model='test_efficientnet')
    with pytest.raises(ValueError, match='made with an uncertainty head, and this run has none'):
        launch('--sumix', '--epochs', 2, '--resume', last)


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
def test_two_processes_train(train_script, images, tmp_path, arguments):
    if '--sync-bn' in arguments and not torch.cuda.is_available():
        pytest.skip('torch synchronises batch norm on GPUs alone')
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', '-m', 'train_patch']
    run = _start(
        train_script, images, tmp_path, 'two', '--epochs', 2, '--batch-size', 50, '--workers', 1, *arguments.split(),
        module=torchrun)
    assert run.wait(600) == 0, (tmp_path / 'two.log').read_text()[-3000:]
    rows = read_summary(tmp_path / 'two')
    assert len(rows) == 2 and all(row['train_sumix_shift'] > 0 for row in rows)


def _memory_and_files(process):
    """Return a process's resident memory in MiB, and its number of open files."""
    with open(f'/proc/{process.pid}/status') as file:
        resident, = (int(line.split()[1]) for line in file if line.startswith('VmRSS'))
    return resident / 1024, len(os.listdir(f'/proc/{process.pid}/fd'))


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_five_thousand_steps_leak_neither_memory_nor_files_and_repeat(train_script, images, tmp_path):
    arguments = ('--epochs', 10, '--batch-size', 4, '--workers', 4, '--sumix-preview', 5, '--checkpoint-hist', 1)
    runs = [_start(train_script, images, tmp_path, 'first', *arguments)]
    seen = {}
    while runs[0].poll() is None:
        epoch, step = _position(tmp_path / 'first.log')
        if (epoch, step // 100) not in seen and 200 <= step < 400:  # far from validation and checkpoints
            seen[epoch, step // 100] = _memory_and_files(runs[0])
        time.sleep(0.1)
    assert runs[0].returncode == 0 and len(seen) >= 15
    assert _start(train_script, images, tmp_path, 'second', *arguments).wait(1200) == 0
    assert read_summary(tmp_path / 'first') == read_summary(tmp_path / 'second')
    memory, files = zip(*(value for (epoch, _), value in sorted(seen.items()) if epoch > 0))
    print(f'MiB {memory}, files {files}')
    half = len(memory) // 2
    assert np.median(memory[half:]) < 1.01 * np.median(memory[:half])
    assert np.median(files[half:]) == np.median(files[:half])  # a few are open for a moment
