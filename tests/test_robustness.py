"""The robustness benchmark, on small models and images made here."""
import json

import pytest
import torch

from benchmarks import robustness
from benchmarks.data import settings
from benchmarks.data.objects import load_digits_objects
from benchmarks.robustness import attack, corrupt, measure, occlude, reliability
from benchmarks.training import create_model


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(20, 3, 32, 32) * 2 - 1


def test_an_attack_raises_the_loss_within_its_strength(images):
    model, labels = create_model().eval(), torch.randint(0, 10, (20,))
    moved = attack(model, images, labels, 4 / 255)
    losses = [torch.nn.functional.cross_entropy(model(x), labels) for x in (images, moved)]
    assert losses[1] > losses[0] and (moved - images).abs().max() <= 8 / 255 + 1e-6  # of a range from -1 to 1
    assert -1 <= moved.min() <= moved.max() <= 1


def test_occlusion_hides_whole_cells_in_their_share(images):
    for dropped in (0., 0.3, 0.9):
        hidden = (occlude(images, dropped, seed=0) == 0.).all(1).view(20, 8, 4, 8, 4).float().mean((2, 4))
        assert ((hidden == 0) | (hidden == 1)).all() and (hidden.sum((1, 2)) == round(64 * dropped)).all()


def test_a_model_that_is_always_right_and_always_sure_is_reliable():
    assert reliability(100. * torch.eye(10), torch.arange(10)) == [[1., 1., 1.]]


def test_every_model_sees_the_same_images(images):
    model = create_model().eval()
    first, second = measure({'a': model, 'b': model}, images, torch.arange(20) % 10, [], seed=0)
    assert {**first, 'checkpoint': 'b'} == second and first['occlusion'][0.] == first['top1']


def test_checkpoints_of_a_setting_are_measured(run_main, tmp_path, checkpoints, monkeypatch, capsys):
    monkeypatch.setattr(settings, 'load_objects', lambda folder: load_digits_objects())
    monkeypatch.setitem(settings.SETTINGS, 'placed-14', settings.Setting(test_images=40))
    settings.make_data.cache_clear()
    out = tmp_path / 'result.json'
    run_main(robustness, *checkpoints, '--corruptions', '--images', 16, '--out', out)
    settings.make_data.cache_clear()
    result = json.loads(out.read_text())
    assert result['images'] == 16 and [row['checkpoint'] for row in result['rows']] == [str(p) for p in checkpoints]
    assert set(result['rows'][0]['fgsm']) == {'0.5', '1.0', '2.0', '4.0', '8.0'}
    assert capsys.readouterr().out.count('half occluded') == 2


def test_common_corruptions_come_from_their_package(images):
    names = pytest.importorskip('imagecorruptions').get_corruption_names('common')
    for name in names:
        changed = corrupt(images[:2], name, 3, seed=0)
        assert changed.shape == (2, 3, 32, 32) and not torch.equal(changed, images[:2])
