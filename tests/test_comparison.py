"""The comparison of labels: its runs and their results."""
import json

import numpy as np
import pytest
import timm
from conftest import ROOT
from helpers import write_cifar100

from benchmarks.common.results import write_result
from benchmarks.comparison import __main__ as comparison
from benchmarks.comparison import run as comparison_run
from benchmarks.comparison.run import create_run
from benchmarks.comparison.sets import SETS, keys
from benchmarks.data import settings
from benchmarks.data.objects import load_digits_objects
from benchmarks.data.settings import SETTINGS, Setting
from benchmarks.labels.arms import DISTILLED, WEIGHTS, weights_name
from benchmarks.report.runs import gains
from benchmarks.runs import make_runs
from benchmarks.training import SMALL_MODEL

MADE_BY = {'command': 'python', 'versions': {}, 'commit': 'abc', 'device': 'cpu'}


def _make(arm, seed, out, **made_by):
    """Make a run of the tiny setting, and return it."""
    run = create_run(('placed-14', arm, seed), out)
    assert make_runs([run], {**MADE_BY, **made_by}, jobs=1)
    return run


@pytest.fixture
def collect(run_main, tmp_path):
    """Return a function that collects runs of the tiny setting in a file, and returns the exit code and its content."""
    def run(out, *arms, seeds=1):
        path = tmp_path / 'collected.json'
        with pytest.raises(SystemExit) as end:
            chosen = ('--settings', 'placed-14', '--seeds', seeds, '--arms', *arms)
            run_main(comparison, '--out', out, '--collect', path, *chosen)
        return end.value.code, json.loads(path.read_text())
    return run


@pytest.fixture
def tiny(monkeypatch):
    name, classes, *splits = load_digits_objects()
    monkeypatch.setattr(settings, 'load_objects', lambda folder: ('Fashion-MNIST', classes, *splits))
    monkeypatch.setitem(SETTINGS, 'placed-14', Setting(images=128, epochs=2, test_images=100))
    settings.make_data.cache_clear()
    yield
    settings.make_data.cache_clear()


@pytest.mark.parametrize(
    'arm', ['none', 'evidence 8', '0.5 2 0', 'combined, shuffled', 'similarity, growing', 'paper', 'true'])
def test_a_run_leaves_a_result_and_a_checkpoint_that_plain_timm_loads(tiny, tmp_path, arm):
    path = _make(arm, 0, tmp_path).result
    result = json.loads(path.read_text())
    assert result['arm'] == arm and 0 <= result['top1'] <= 100 and result['nll'] > 0
    assert result['calibrated']['temperature'] > 0 and result['calibrated']['nll'] != result['nll']
    assert (result['label_error']['last epoch'] is None) == (arm == 'none')  # of which nothing is mixed
    timm.create_model(**SMALL_MODEL, num_classes=10, checkpoint_path=str(path.with_name('checkpoint.pth.tar')))
    changed = path.stat().st_mtime_ns
    _make(arm, 0, tmp_path)
    assert path.stat().st_mtime_ns == changed  # not made again


@pytest.mark.parametrize('arm', DISTILLED)
def test_a_student_is_taught_by_the_model_of_its_teachers_arm(tiny, tmp_path, arm):
    run = create_run(('placed-14', arm, 0), tmp_path)
    assert not make_runs([run], MADE_BY, jobs=1)
    assert "needs the model of arm 'none'" in (run.folder / 'error.txt').read_text()
    _make('none', 0, tmp_path)
    _make(arm, 0, tmp_path)
    error = json.loads(run.result.read_text())['label_error']['first epoch']
    assert error == 0. if 'true' in arm else 0. < error < 1.


def test_the_named_runs_are_collected_with_the_command_that_made_them(tiny, tmp_path, collect, capsys):
    first, *_ = [
        _make(arm, seed, tmp_path, command=f'python --seeds {seed + 1}')
        for arm, seed in (('area', 0), ('area', 1), ('none', 0))]
    code, result = collect(tmp_path, 'area', 'true', seeds=2)
    assert code == 1 and '2 of 4 runs are done' in capsys.readouterr().out
    assert result['command'] == ['python --seeds 1', 'python --seeds 2'] and result['commit'] == ['abc']
    assert [run['seed'] for run in result['runs']] == result['seed'] == [0, 1]
    assert {run['arm'] for run in result['runs']} == {'area'} and list(result['settings']) == ['placed-14']
    assert gains(result['runs'], result['runs']) == [0., 0.] and collect(tmp_path, 'area', seeds=2)[0] == 0
    write_result(first.result, {**result['runs'][0], 'device': 'other'})
    with pytest.raises(ValueError, match='device must be the same for all runs'):
        collect(tmp_path, 'area')


def test_what_a_file_already_holds_stays_in_it_unless_it_was_made_again(tiny, tmp_path, collect):
    for folder, arm in (('first', 'area'), ('second', 'none'), ('third', 'area')):
        _make(arm, 0, tmp_path / folder, command=folder)
        code, result = collect(tmp_path / folder, arm)
        assert code == 0
    assert [(run['arm'], run['command']) for run in result['runs']] == [('area', 'third'), ('none', 'second')]
    assert result['command'] == ['second', 'third']
    assert result['seconds'] == sum(run['seconds'] for run in result['runs']) > 0


def test_a_run_on_photographs_begins_with_the_published_weights_and_knows_no_truth(tmp_path, monkeypatch):
    for part, count in (('train', 160), ('test', 20)):
        pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        write_cifar100(monkeypatch, tmp_path, part, pixels, [*range(10)] * (count // 10))
    monkeypatch.setitem(SETTINGS, 'real', Setting(
        data='cifar100', size=None, images=160, epochs=1, mode='pair', recipe='cifar', test_images=20, model='lite0'))
    seen = []
    monkeypatch.setattr(comparison_run, 'load_weights', seen.append)
    run = create_run(('real', 'area', 0), tmp_path / 'runs', tmp_path)
    assert make_runs([run], MADE_BY, jobs=1)
    result = json.loads(run.result.read_text())
    assert len(seen) == 1 and seen[0].num_classes == 10
    assert result['label_error'] == {'first epoch': None, 'last epoch': None}
    assert result['top1'] % 5 == pytest.approx(0., abs=1e-4) and set(result['calibrated']) == {
        'temperature', 'nll', 'ece'}


def test_every_committed_result_says_what_made_it():
    results = list((ROOT / 'benchmarks' / 'results').glob('*.json'))
    assert len(results) > 5
    for path in results:
        assert {'command', 'seed', 'versions', 'commit', 'device'} <= set(json.loads(path.read_text())), path.name


def test_the_sets_hold_settings_that_there_are_and_in_each_what_to_compare_with():
    for name in SETS:
        assert len(set(keys(name))) == len(keys(name))
        assert {setting for setting, *_ in keys(name)} <= set(SETTINGS)
        for setting in {run[0] for run in keys(name)}:
            assert 'area' in {arm for own, arm, _ in keys(name) if own == setting}
    real = [setting for setting in SETTINGS.values() if setting.is_real]
    assert all(own.stored >= own.canvas and own.images % own.classes == 0 for own in real)
    assert {SETTINGS[setting].is_real for setting, *_ in keys('real')} == {True}
    weights = {arm for _, arm, _ in keys('strengths')}
    assert weights >= {weights_name(own) for own in WEIGHTS} >= {'similarity', 'combined', '0.5 2 0'}
    taught = keys('distillation', seeds=1)
    assert taught.index(('resnet18-narrow', 'none', 0)) < min(
        taught.index(('resnet18-narrow', arm, 0)) for arm in DISTILLED)  # teachers first


def test_objects_of_several_sizes_are_equally_often_on_the_canvases(tiny, monkeypatch):
    seeds, place = [], settings.place
    monkeypatch.setattr(settings, 'place', lambda *args, seed, **kwargs: (
        seeds.append(seed), place(*args, seed=seed, **kwargs))[1])
    data = settings.make_data(Setting(size=(6, 10), images=40, test_images=21), 0)
    for part, count in ((data.train, 40), (data.test, 21)):
        rows = part.masks.any(2).sum(1)  # height of what is seen of each object
        assert [int((rows <= 6).sum()), int((rows > 6).sum())] == [count - count // 2, count // 2]
    settings.make_data(Setting(size=(6, 10), images=40, test_images=21), 1)
    assert len(set(seeds)) == len(seeds) == 8  # two sizes, training and test images, two seeds
