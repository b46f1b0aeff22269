"""The robustness benchmark, on small models and images made here."""
import json
import sys

import pytest
import torch
from PIL import Image

from benchmarks.data.settings import SETTINGS
from benchmarks.robustness import __main__ as robustness
from benchmarks.robustness.changes import attack, corrupt, occlude
from benchmarks.robustness.images import Images, Normalised
from benchmarks.robustness.measure import clean_scores
from benchmarks.training import MODELS, create_model

HALF = ((0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def images():
    torch.manual_seed(0)
    return Images(torch.rand(20, 3, 32, 32), torch.randint(0, 10, (20,)), HALF)


def test_an_attack_raises_the_loss_within_its_strength(images):
    model = Normalised(create_model().eval(), HALF)
    moved = attack(model, images, 4 / 255, 'cpu')
    losses = [torch.nn.functional.cross_entropy(model(x), images.labels) for x in (images.pixels, moved)]
    assert losses[1] > losses[0] and (moved - images.pixels).abs().max() <= 4 / 255 + 1e-6
    assert 0 <= moved.min() <= moved.max() <= 1


def test_occlusion_hides_whole_cells_in_their_share(images):
    for dropped in (0., 0.3, 0.9):
        hidden = (occlude(images, dropped, seed=0) == 0.5).all(1).view(20, 8, 4, 8, 4).float().mean((2, 4))
        assert ((hidden == 0) | (hidden == 1)).all() and (hidden.sum((1, 2)) == round(64 * dropped)).all()


def test_scores_of_a_model_that_is_always_right_and_always_sure():
    labels = torch.arange(10)
    scores = clean_scores(100. * torch.eye(10), labels)
    assert scores['top1'] == 100. and scores['nll'] < 1e-6 and scores['ece'] < 1e-4
    assert scores['reliability'] == [[1., 1., 1.]]


def test_checkpoints_are_measured_on_an_image_folder(run_main, tmp_path, checkpoints, capsys):
    for label in range(10):
        folder = tmp_path / 'data' / 'validation' / str(label)
        folder.mkdir(parents=True)
        for i in range(2):
            Image.new('RGB', (40, 40), (25 * label, 10 * i, 99)).save(folder / f'{i}.png')
    out = tmp_path / 'result.json'
    kwargs = ['--model', 'wide_resnet10_1', '--model-kwargs', 'stem_stride=2', 'output_stride=8']
    run_main(
        robustness, *checkpoints, '--data-dir', tmp_path / 'data', *kwargs, '--num-classes', 10,
        '--corruptions', '--images', 16, '--out', out)
    result = json.loads(out.read_text())
    assert result['images'] == 16 and len(result['rows']) == 2 and out.with_suffix('.png').is_file()
    row = result['rows'][0]
    assert row['occlusion']['0.0'] == row['top1'] and set(row['fgsm']) == {'0.5', '1.0', '2.0', '4.0', '8.0'}
    assert 'half' in capsys.readouterr().out
    run_main(robustness, '--render', out)


@pytest.mark.parametrize('name', ['placed-14-vit', 'placed-emoji', 'placed-emoji-48'])
def test_a_settings_checkpoints_are_read_by_its_model_and_classes(monkeypatch, tmp_path, name):
    setting, path = SETTINGS[name], tmp_path / 'checkpoint.pth.tar'
    torch.save({'state_dict': create_model(setting.classes, **MODELS[setting.model]).state_dict()}, path)
    monkeypatch.setattr(sys, 'argv', ['robustness', str(path), '--setting', name])
    model, = robustness.load_models(robustness.parse_args()).values()
    assert model.num_classes == setting.classes


def test_common_corruptions_come_from_their_package(images):
    names = pytest.importorskip('imagecorruptions').get_corruption_names('common')
    for name in names:
        changed = corrupt(images._replace(pixels=images.pixels[:2]), name, 3, seed=0)
        assert changed.shape == (2, 3, 32, 32) and not torch.equal(changed, images.pixels[:2])


@pytest.mark.parametrize('arguments, message', [
    ([], 'CHECKPOINT: at least one must be given'),
    (['nowhere.pth.tar', '--setting', 'placed-14'], 'there is no nowhere.pth.tar'),
    ([__file__], 'either --setting, or --data-dir and --model, must be given'),
])
def test_bad_arguments_are_refused(run_main, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run_main(robustness, *arguments)
    assert message in capsys.readouterr().err
