"""The comparison of labels: its runs, their results, and the page that is made of them."""
import json
import sys

import pytest
import timm
import torch

from benchmarks import comparison
from benchmarks.comparison import ARMS, Setting, run_one, runs
from benchmarks.evidence import PAGES, fill, gains
from benchmarks.placed import load_digits_objects
from benchmarks.rivals import RULES
from benchmarks.training import SMALL_MODEL, create_model, cutmix, to_image_set, train


@pytest.fixture
def tiny(monkeypatch):
    name, classes, *splits = load_digits_objects()
    monkeypatch.setattr(comparison, 'load_objects', lambda: ('Fashion-MNIST', classes, *splits))
    monkeypatch.setitem(comparison.SETTINGS, 'placed-14', Setting(images=128, epochs=1))
    monkeypatch.setattr(comparison, 'TEST_IMAGES', 100)


@pytest.mark.parametrize(
    'arm', ['none', 'area, same time', 'place 8', 'released', 'snapmix', 'lumix', 'true', 'place 1, faded'])
def test_a_run_leaves_a_result_and_a_checkpoint_that_plain_timm_loads(tiny, tmp_path, arm):
    run_one(('placed-14', arm, 0, tmp_path, {'commit': 'abc'}))
    result_path, = tmp_path.glob('placed-14/*/seed0/result.json')
    result = json.loads(result_path.read_text())
    assert result['arm'] == arm and 0 <= result['top1'] <= 100 and result['nll'] > 0
    timm.create_model(**SMALL_MODEL, num_classes=10, checkpoint_path=str(result_path.with_name('checkpoint.pth.tar')))
    changed = result_path.stat().st_mtime_ns
    run_one(('placed-14', arm, 0, tmp_path, {'commit': 'abc'}))
    assert result_path.stat().st_mtime_ns == changed  # not made again


def test_results_are_collected_with_the_command_that_made_them(tiny, tmp_path, monkeypatch):
    for seed in (0, 1):
        run_one(('placed-14', 'area', seed, tmp_path, {'commit': 'abc'}))
    (tmp_path / 'run.json').write_text(json.dumps({'command': 'python -m benchmarks.comparison --seeds 2'}))
    out = tmp_path / 'comparison.json'
    monkeypatch.setattr(sys, 'argv', ['comparison', '--out', str(tmp_path), '--collect', str(out)])
    comparison.main()
    result = json.loads(out.read_text())
    assert result['command'].endswith('--seeds 2') and [run['seed'] for run in result['runs']] == [0, 1]
    assert gains(result['runs'], result['runs']) == [0., 0.]


def test_every_arm_is_made_where_mixing_helps_and_some_elsewhere():
    names = runs(['placed-14', 'plain'], list(ARMS), 2)
    assert len([run for run in names if run[0] == 'placed-14']) == 2 * len(ARMS)
    assert {'area', 'place 8', 'true'} <= {arm for setting, arm, _ in names if setting == 'plain'}


def test_a_rule_replaces_the_shares_that_the_loss_sees():
    data = to_image_set(comparison.place(load_digits_objects()[2], 128))
    seen = []

    def rule(model, mixed, target, masks):
        seen.append(RULES['true'](model, mixed, target, masks))
        return seen[-1]

    torch.manual_seed(0)
    model = create_model()
    before = model.head.fc.weight.detach().clone()
    train(model, data, cutmix(), epochs=1, seed=0, task_kwargs={'ratio': 'area', 'gamma': 0.}, rule=rule)
    assert len(seen) == 2 and ((seen[0] >= 0) & (seen[0] <= 1)).all()
    assert not torch.equal(model.head.fc.weight, before)


def test_the_pages_hold_what_the_committed_results_make():
    for path in PAGES:
        page = path.read_text()
        assert '<!-- end -->' in page and fill(page) == page
    with pytest.raises(ValueError, match="blocks must be among .* got 'weather'"):
        fill('<!-- weather -->\n<!-- end -->')
