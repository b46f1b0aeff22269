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
from benchmarks.record import write_result
from benchmarks.rivals import RULES, _fade
from benchmarks.training import SMALL_MODEL, create_model, cutmix, to_image_set, train
from timm_sumix import MixedTarget, SUMixLoss

MADE_BY = {'command': 'python', 'versions': {}, 'commit': 'abc', 'device': 'cpu'}


@pytest.fixture
def tiny(monkeypatch):
    name, classes, *splits = load_digits_objects()
    monkeypatch.setattr(comparison, 'load_objects', lambda folder: ('Fashion-MNIST', classes, *splits))
    monkeypatch.setitem(comparison.SETTINGS, 'placed-14', Setting(images=128, epochs=1))
    monkeypatch.setattr(comparison, 'TEST_IMAGES', 100)


@pytest.mark.parametrize(
    'arm', ['none', 'area, same time', 'evidence 8', 'released', 'snapmix', 'lumix', 'true', 'evidence 1, faded'])
def test_a_run_leaves_a_result_and_a_checkpoint_that_plain_timm_loads(tiny, tmp_path, arm):
    run_one(('placed-14', arm, 0, tmp_path, MADE_BY))
    result_path, = tmp_path.glob('placed-14/*/seed0/result.json')
    result = json.loads(result_path.read_text())
    assert result['arm'] == arm and 0 <= result['top1'] <= 100 and result['nll'] > 0
    timm.create_model(**SMALL_MODEL, num_classes=10, checkpoint_path=str(result_path.with_name('checkpoint.pth.tar')))
    changed = result_path.stat().st_mtime_ns
    run_one(('placed-14', arm, 0, tmp_path, MADE_BY))
    assert result_path.stat().st_mtime_ns == changed  # not made again


def test_results_are_collected_with_the_command_that_made_them(tiny, tmp_path, monkeypatch):
    for seed in (0, 1):
        run_one(('placed-14', 'area', seed, tmp_path, {**MADE_BY, 'command': f'python --seeds {seed + 1}'}))
    out = tmp_path / 'comparison.json'
    monkeypatch.setattr(sys, 'argv', ['comparison', '--out', str(tmp_path), '--collect', str(out)])
    comparison.main()
    result = json.loads(out.read_text())
    assert result['command'] == ['python --seeds 1', 'python --seeds 2'] and result['commit'] == ['abc']
    assert [run['seed'] for run in result['runs']] == result['seed'] == [0, 1]
    assert gains(result['runs'], result['runs']) == [0., 0.]
    write_result(tmp_path / 'placed-14' / 'area' / 'seed0' / 'result.json', {**result['runs'][0], 'device': 'other'})
    with pytest.raises(ValueError, match='device must be the same for all runs'):
        comparison.main()


def test_every_arm_is_made_where_mixing_helps_and_some_elsewhere():
    names = runs(['placed-14', 'plain'], list(ARMS), 2)
    assert len([run for run in names if run[0] == 'placed-14']) == 2 * len(ARMS)
    assert {'area', 'evidence 8', 'true'} <= {arm for setting, arm, _ in names if setting == 'plain'}


def test_a_rule_replaces_the_shares_that_the_loss_sees(monkeypatch):
    data = to_image_set(comparison.place(load_digits_objects()[2], 128))
    seen, used = [], []

    def rule(model, mixed, target, masks):
        seen.append(RULES['true'](model, mixed, target, masks))
        return seen[-1]

    torch.manual_seed(0)
    model = create_model()
    before, forward = model.head.fc.weight.detach().clone(), SUMixLoss.forward
    monkeypatch.setattr(SUMixLoss, 'forward', lambda self, mixed, original, target: (
        used.append(target.lam), forward(self, mixed, original, target))[1])
    train(model, data, cutmix(), epochs=1, seed=0, task_kwargs={'ratio': 'area', 'gamma': 0.}, rule=rule)
    assert len(seen) == len(used) == 2 and ((seen[0] >= 0) & (seen[0] <= 1)).all()
    assert not torch.equal(model.head.fc.weight, before)
    for rule_said, loss_used in zip(seen, used):
        torch.testing.assert_close(loss_used, rule_said)


def test_neither_a_head_nor_the_label_changes_what_is_drawn():
    data, drawn = to_image_set(comparison.place(load_digits_objects()[2], 128)), []
    for gamma, label in ((0., 'pass'), (0.5, 'pass'), (0., 'lumix')):
        lams = []

        def rule(model, mixed, target, masks, lams=lams, label=label):
            lams.append(target.lam)
            return RULES[label](model, mixed, target, masks)

        task_kwargs = {'ratio': 'similarity', 'gamma': gamma}
        train(create_model(), data, cutmix(), epochs=1, seed=0, task_kwargs=task_kwargs, rule=rule)
        drawn.append(torch.cat(lams))
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize('seen, expected', [(0., [0.25, 0.25, 0.25, 0.25]), (0.5, [0.425, 0.325, 0.125, 0.125]),
                                            (1., [0.6, 0.4, 0., 0.]), (1.5, [0.6, 0.4, 0., 0.])])
def test_a_faded_target_is_nearer_to_equal_the_less_is_shown(seen, expected):
    target = MixedTarget(torch.tensor([0, 1]), torch.tensor([0.6, 0.5]), num_classes=4)
    _fade(target, torch.tensor([seen, 1.]))
    torch.testing.assert_close(target.soft_target()[0], torch.tensor(expected))
    torch.testing.assert_close(target.soft_target()[1], torch.tensor([0.5, 0.5, 0., 0.]))


def test_the_pages_hold_what_the_committed_results_make():
    for path in PAGES:
        page = path.read_text()
        assert '<!-- end -->' in page and fill(page) == page
    with pytest.raises(ValueError, match="blocks must be among .* got 'weather'"):
        fill('<!-- weather -->\n<!-- end -->')
