"""The speed benchmark: its arithmetic, and that it measures what it says."""
import json
import subprocess

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.common.results import ROOT
from benchmarks.speed import __main__ as speed
from benchmarks.speed.clock import compare_times, peak_memory, take_turns
from benchmarks.speed.steps import Workload, make_step
from timm_sumix.mixing import MODES

CPU = torch.device('cpu')
# how the names of operations begin that launch nothing: views, and taking memory
FREE = (
    'view', '_unsafe_view', 'reshape', 'expand', 'permute', 'transpose', 't.', 'unsqueeze', 'squeeze', 'slice',
    'select', 'detach', 'alias', 'unbind', 'as_strided', 'split', 'empty')


class _Counter(TorchDispatchMode):
    """Counts the operations that are dispatched under it: on a GPU each is a kernel, whatever its size."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not function.name().split('::')[1].startswith(FREE)
        return function(*args, **(kwargs or {}))


def _count_operations(work, setting):
    """Return how many operations a training step dispatches, forward, backward and optimizer."""
    step = make_step(work, setting)
    step()  # the optimizer makes its state
    with _Counter() as counter:
        step()
    return counter.count


def test_a_ratio_is_the_median_over_turns_with_its_quartiles():
    rows = compare_times({'base': [1., 2., 4., 8., 16.], 'ours': [2., 2., 12., 8., 80.]}, 'base')
    assert rows['ours'] == {'ms': 8., 'ratio': 2., 'low': 1., 'high': 3.}
    assert rows['base'] == {'ms': 4., 'ratio': 1., 'low': 1., 'high': 1.}


def test_calls_take_turns_and_none_is_always_first():
    order = []
    times = take_turns({name: lambda name=name: order.append(name) for name in 'ab'}, CPU, 3)
    assert order == list('ab' + 'ab' + 'ba' + 'ab') and [len(values) for values in times.values()] == [3, 3]


def test_the_peak_of_memory_is_what_is_held_at_once():
    def call():
        first = torch.zeros(1000, 1000)
        second = first + 1.
        del first, second
        torch.zeros(500, 1000)

    assert 8_000_000 <= peak_memory(call, CPU) < 8_000_100  # scalars are tensors too


def test_steps_and_parts_are_measured_and_written(run_main, tmp_path):
    out = tmp_path / 'speed.json'
    run_main(
        speed, '--models', 'test_vit', '--size', 160, '--batch-size', 2, '--repeats', 2, '--out', out,
        '--parts', 'steps')
    result = json.loads(out.read_text())
    rows = result['steps']['test_vit']
    assert list(rows)[0] == 'timm' and rows['timm']['ratio'] == rows['timm']['memory'] == 1.
    assert rows['grad (preset paper)']['memory'] > 1.2
    assert result['processes'] == 1 and {'command', 'seed', 'versions', 'commit', 'device', 'wall_s'} <= set(result)


def test_a_step_dispatches_few_operations_more_than_timms():
    for setting, most in (('evidence', (77, 98, 128)), ('default', (70, 95, 95))):
        for mode, bound in zip(MODES, most):
            work = Workload('test_resnet', 8, 160, 10, CPU, mode=mode)
            assert 0 < _count_operations(work, setting) - _count_operations(work, 'timm') <= bound


@pytest.mark.parametrize('arguments, message', [
    (['--repeats', 1], '--repeats must be 2 or greater, got 1'),
    (['--device', 'cuda'], '--device cuda needs a GPU that torch can use, and there is none')])
def test_what_cannot_be_measured_is_an_error(run_main, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit):
        run_main(speed, *arguments)
    assert message in capsys.readouterr().err


def test_make_gpu_takes_the_python_that_has_what_is_needed_and_installs_nothing(tmp_path):
    (tmp_path / 'Makefile').write_text((ROOT / 'Makefile').read_text())
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    python.chmod(0o755)
    subprocess.run(['make', 'gpu', f'PYTHON={python}', 'ARGS=--repeats 3'], cwd=tmp_path, check=True)
    asked, measured, tested = (tmp_path / 'calls').read_text().splitlines()
    assert asked.startswith('-c import') and tested == '-m pytest -m gpu -q' and not (tmp_path / '.venv').exists()
    assert measured.startswith('-m benchmarks.speed --device cuda') and measured.endswith('--repeats 3')
