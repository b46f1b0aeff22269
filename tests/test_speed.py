"""The speed benchmark: its arithmetic, and that it measures what it says."""
import json

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.speed import __main__ as speed
from benchmarks.speed.clock import compare_times, take_turns
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


def test_a_ratio_is_the_median_with_its_quartiles_over_turns_in_which_none_is_always_first():
    rows = compare_times({'base': [1., 2., 4., 8., 16.], 'ours': [2., 2., 12., 8., 80.]}, 'base')
    assert rows['ours'] == {'ms': 8., 'ratio': 2., 'low': 1., 'high': 3.}
    assert rows['base'] == {'ms': 4., 'ratio': 1., 'low': 1., 'high': 1.}
    order = []
    times = take_turns({name: lambda name=name: order.append(name) for name in 'ab'}, CPU, 3)
    assert order == list('ab' + 'ab' + 'ba' + 'ab') and [len(values) for values in times.values()] == [3, 3]


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
    for setting, most in (('evidence', (76, 97, 127)), ('default', (70, 95, 95))):
        for mode, bound in zip(MODES, most):
            work = Workload('test_resnet', 8, 160, 10, CPU, mode=mode)
            counts = []
            for name in (setting, 'timm'):
                step = make_step(work, name)
                step()  # the optimizer makes its state
                with _Counter() as counter:
                    step()  # forward, backward and optimizer
                counts.append(counter.count)
            assert 0 < counts[0] - counts[1] <= bound
