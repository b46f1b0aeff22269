"""The comparison of labels: its runs and their results."""
import json
import sys

import pytest
import timm
from PIL import Image

from benchmarks.common.results import write_result
from benchmarks.comparison import __main__ as comparison
from benchmarks.comparison import run as comparison_run
from benchmarks.comparison.run import create_run
from benchmarks.comparison.sets import SETS, keys
from benchmarks.data import photographs, settings
from benchmarks.data.objects import load_digits_objects
from benchmarks.data.settings import SETTINGS, Setting
from benchmarks.labels.arms import DISTILLED, WEIGHTS, weights_name
from benchmarks.report.runs import gains
from benchmarks.runs import make_runs
from benchmarks.training import SMALL_MODEL

MADE_BY = {'command': 'python', 'versions': {}, 'commit': 'abc', 'device': 'cpu'}


def _make(setting, arm, seed, out, made_by):
    assert make_runs([create_run((setting, arm, seed), out)], made_by, jobs=1)


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
    _make('placed-14', arm, 0, tmp_path, MADE_BY)
    result_path, = tmp_path.glob('placed-14/*/seed0/result.json')
    result = json.loads(result_path.read_text())
    assert result['arm'] == arm and 0 <= result['top1'] <= 100 and result['nll'] > 0
    assert result['calibrated']['temperature'] > 0 and result['calibrated']['nll'] != result['nll']
    assert (result['label_error']['last epoch'] is None) == (arm == 'none')  # of which nothing is mixed
    timm.create_model(**SMALL_MODEL, num_classes=10, checkpoint_path=str(result_path.with_name('checkpoint.pth.tar')))
    changed = result_path.stat().st_mtime_ns
    _make('placed-14', arm, 0, tmp_path, MADE_BY)
    assert result_path.stat().st_mtime_ns == changed  # not made again


@pytest.mark.parametrize('arm', DISTILLED)
def test_a_student_is_taught_by_the_model_of_its_teachers_arm(tiny, tmp_path, arm):
    run = create_run(('placed-14', arm, 0), tmp_path)
    assert not make_runs([run], MADE_BY, jobs=1)
    assert "needs the model of arm 'none'" in (run.folder / 'error.txt').read_text()
    _make('placed-14', 'none', 0, tmp_path, MADE_BY)
    _make('placed-14', arm, 0, tmp_path, MADE_BY)
    error = json.loads(run.result.read_text())['label_error']['first epoch']
    assert error == 0. if 'true' in arm else 0. < error < 1.


def test_results_are_collected_with_the_command_that_made_them(tiny, tmp_path, monkeypatch):
    for seed in (0, 1):
        _make('placed-14', 'area', seed, tmp_path, {**MADE_BY, 'command': f'python --seeds {seed + 1}'})
    out = tmp_path / 'comparison.json'
    monkeypatch.setattr(sys, 'argv', [
        'comparison', '--out', str(tmp_path), '--collect', str(out), '--settings', 'placed-14', '--arms', 'area'])
    with pytest.raises(SystemExit, match='1'):  # there are three seeds
        comparison.main()
    result = json.loads(out.read_text())
    assert result['command'] == ['python --seeds 1', 'python --seeds 2'] and result['commit'] == ['abc']
    assert [run['seed'] for run in result['runs']] == result['seed'] == [0, 1]
    assert gains(result['runs'], result['runs']) == [0., 0.]
    write_result(tmp_path / 'placed-14' / 'area' / 'seed0' / 'result.json', {**result['runs'][0], 'device': 'other'})
    with pytest.raises(ValueError, match='device must be the same for all runs'):
        comparison.main()


def test_only_the_named_runs_are_collected(tiny, tmp_path, monkeypatch, capsys):
    for arm in ('area', 'none'):
        _make('placed-14', arm, 0, tmp_path, {**MADE_BY, 'command': 'python'})
    out = tmp_path / 'seeds.json'
    monkeypatch.setattr(sys, 'argv', [
        'comparison', '--out', str(tmp_path),
        '--collect', str(out), '--settings', 'placed-14', '--arms', 'area', 'true'])
    with pytest.raises(SystemExit, match='1'):
        comparison.main()
    result = json.loads(out.read_text())
    assert [run['arm'] for run in result['runs']] == ['area'] and list(result['settings']) == ['placed-14']
    assert '1 of 6 runs are done' in capsys.readouterr().out
    monkeypatch.setattr(sys, 'argv', [*sys.argv[:-1], '--seeds', '1'])
    with pytest.raises(SystemExit, match='0'):
        comparison.main()


def test_what_a_file_already_holds_stays_in_it_unless_it_was_made_again(tiny, tmp_path, monkeypatch):
    out = tmp_path / 'controls.json'
    for folder, arm in (('first', 'area'), ('second', 'none'), ('third', 'area')):
        _make('placed-14', arm, 0, tmp_path / folder, {**MADE_BY, 'command': folder})
        monkeypatch.setattr(sys, 'argv', [
            'comparison', '--settings', 'placed-14', '--arms', arm, '--seeds', '1', '--out', str(tmp_path / folder),
            '--collect', str(out)])
        with pytest.raises(SystemExit, match='0'):
            comparison.main()
    result = json.loads(out.read_text())
    assert [(run['arm'], run['command']) for run in result['runs']] == [('area', 'third'), ('none', 'second')]
    assert result['command'] == ['second', 'third']
    assert result['seconds'] == sum(run['seconds'] for run in result['runs']) > 0


def test_a_run_on_photographs_reads_them_from_the_folder_and_knows_no_truth(tmp_path, monkeypatch):
    for part, count in (('train', 16), ('test', 2)):
        for label in range(10):
            for number in range(count):
                path = tmp_path / 'pictures' / part / f'class{label}' / f'{number}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new('RGB', (32, 32), (20 * label, 10 * number, 0)).save(path)
    monkeypatch.setattr(photographs, 'CIFAR_CLASSES', 10)
    monkeypatch.setitem(SETTINGS, 'real', Setting(
        data='cifar100', size=None, images=160, epochs=1, mode='pair', recipe='cifar', test_images=20))
    missing, run = (create_run(('real', 'area', 0), tmp_path / 'runs', folder) for folder in (None, tmp_path))
    assert not make_runs([missing], MADE_BY, jobs=1)
    assert '--data-dir must hold cifar100, got None: https' in (run.folder / 'error.txt').read_text()
    assert make_runs([run], MADE_BY, jobs=1)
    result = json.loads(run.result.read_text())
    assert result['label_error'] == {'first epoch': None, 'last epoch': None}
    assert result['top1'] % 5 == pytest.approx(0., abs=1e-4) and set(result['calibrated']) == {
        'temperature', 'nll', 'ece'}


def test_the_sets_hold_settings_that_there_are_and_in_each_what_to_compare_with():
    for name in SETS:
        assert len(set(keys(name))) == len(keys(name))
        assert {setting for setting, *_ in keys(name)} <= set(SETTINGS)
        for setting in {run[0] for run in keys(name)}:
            assert 'area' in {arm for own, arm, _ in keys(name) if own == setting}
    assert {SETTINGS[setting].is_real for setting, *_ in keys('real')} == {True}
    weights = {arm for _, arm, _ in keys('strengths')}
    assert weights >= {weights_name(own) for own in WEIGHTS} >= {'similarity', 'combined', '0.5 2 0'}
    taught = keys('distillation', seeds=1)
    assert taught.index(('resnet18-narrow', 'none', 0)) < min(
        taught.index(('resnet18-narrow', arm, 0)) for arm in DISTILLED)  # teachers first


def test_arms_that_are_named_are_made_in_every_named_setting():
    assert keys('unmixing', ['resnet18-narrow', 'placed-14'], ['similarity'], 1) == [
        ('resnet18-narrow', 'similarity', 0), ('placed-14', 'similarity', 0)]
    assert len(keys('unmixing', ['placed-14'], ['area'])) == 3
    with pytest.raises(ValueError, match=r"for set 'unmixing', got \['placed-14'\]: give --arms too"):
        keys('unmixing', ['placed-14'])


def test_that_nothing_is_to_be_run_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['comparison', '--seeds', '0'])
    with pytest.raises(SystemExit):
        comparison.main()
    assert '--seeds must be 1 or greater, got 0' in capsys.readouterr().err


def test_objects_of_several_sizes_are_equally_often_on_the_canvases(tiny, monkeypatch):
    seeds, place = [], settings.place
    monkeypatch.setattr(settings, 'place', lambda *args, seed, **kwargs: (
        seeds.append(seed), place(*args, seed=seed, **kwargs))[1])
    data = settings.make_data(Setting(size=(6, 10), images=40, test_images=21), 0)
    for part, count in ((data.train, 40), (data.test, 21)):
        rows = part.masks.any(2).sum(1)  # height of what is seen of each object
        assert len(part.labels) == len(part.images) == count
        assert [int((rows <= 6).sum()), int((rows > 6).sum())] == [count - count // 2, count // 2]
    settings.make_data(Setting(size=(6, 10), images=40, test_images=21), 1)
    assert len(set(seeds)) == len(seeds) == 8  # two sizes, training and test images, two seeds


def test_fine_tuning_begins_with_the_published_weights(tiny, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setitem(SETTINGS, 'placed-14', SETTINGS['placed-14']._replace(model='lite0', images=64))
    monkeypatch.setattr(comparison_run, 'load_weights', lambda model: seen.append(model))
    _make('placed-14', 'area', 0, tmp_path, MADE_BY)
    assert len(seen) == 1 and seen[0].num_classes == 10
