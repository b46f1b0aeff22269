"""The engine of runs: what is made once, in which order, on how many processes, and until when."""
import fcntl
import json

import pytest
from helpers import digit_canvases

from benchmarks.labels.arms import ALL_ARMS
from benchmarks.runs import NO_TIME, Run, make_runs, read_results
from benchmarks.training import create_model, predict


def _note(run, device):
    """Note the run's name in the list of all that were made."""
    with open(run.what, 'a') as file:
        file.write(f'{run.name}\n')
    return {'name': run.name}


def _fail(run, device):
    raise ValueError('no such luck')


def _runs(folder, make, what, names=('a', 'b'), seeds=2):
    return [Run(folder / 'group', f'{name}/seed{seed}', seed, make, what) for name in names for seed in range(seeds)]


def test_a_done_run_is_not_repeated_and_a_failed_one_is_and_with_a_budget_whole_seeds_come_first(tmp_path, capsys):
    made = tmp_path / 'made.txt'
    chosen = _runs(tmp_path, _note, made)
    assert not make_runs([Run(tmp_path / 'group', 'a/seed0', 0, _fail, None), *chosen[1:2]], {}, jobs=1)
    assert 'a/seed0: failed, see' in capsys.readouterr().out
    assert 'no such luck' in (chosen[0].folder / 'error.txt').read_text()
    assert make_runs(chosen, {'commit': 'abc'}, jobs=1) and make_runs(chosen, {}, jobs=1)
    assert made.read_text().split() == ['a/seed1', 'a/seed0', 'b/seed0', 'b/seed1']
    made.unlink()
    make_runs(_runs(tmp_path / 'budget', _note, made), {}, jobs=1, budget=100.)
    assert made.read_text().split() == ['a/seed0', 'b/seed0', 'a/seed1', 'b/seed1']  # whole seeds first
    results = read_results(chosen)
    assert [result['name'] for result in results] == ['a/seed0', 'a/seed1', 'b/seed0', 'b/seed1']
    assert results[0]['commit'] == 'abc' and results[0]['wall_s'] >= 0.


def test_a_run_that_another_command_makes_is_left_to_it(tmp_path, capsys):
    run, = _runs(tmp_path, _note, tmp_path / 'made.txt', 'a', 1)
    run.folder.mkdir(parents=True)
    with open(run.folder / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert make_runs([run], {}, jobs=1)
    assert 'another command is at it' in capsys.readouterr().out and not run.result.exists()


def test_no_run_is_begun_that_would_end_after_the_budget_by_the_longest_of_its_group(tmp_path, capsys):
    first, second, short = _runs(tmp_path, _note, tmp_path / 'made.txt', 'abc', 1)
    other = Run(tmp_path / 'other', 'a/seed0', 0, _note, tmp_path / 'made.txt')  # of which no time is known
    for run, seconds in ((first, 60.), (short, 1.)):  # of an earlier command
        run.folder.mkdir(parents=True)
        run.result.write_text(json.dumps({'wall_s': seconds}))
    assert make_runs([first, second, other], {}, jobs=1, budget=50.)
    assert not second.result.exists() and other.result.exists() and capsys.readouterr().out.count(NO_TIME) == 1
    make_runs([first, second], {}, jobs=1, budget=70.)
    assert second.result.exists()


@pytest.mark.gpu
@pytest.mark.parametrize('arm', [name for name, arm in ALL_ARMS.items() if arm.labeller != 'transmix'])
def test_every_arm_trains_on_a_gpu(arm):
    from benchmarks.comparison.run import train_arm
    from benchmarks.data.settings import Setting
    data, model = digit_canvases(), create_model()
    teacher = create_model().cuda() if ALL_ARMS[arm].teacher else None
    train_arm(model, data, Setting(images=128, mode='pair'), ALL_ARMS[arm], 1, seed=0, device='cuda', teacher=teacher)
    assert predict(model, data.images).isfinite().all() and next(model.parameters()).is_cuda
