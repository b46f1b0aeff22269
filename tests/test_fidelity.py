"""The fidelity benchmark: its scores, its rivals, and that the library's ratios stay as true as they were."""
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from benchmarks.common.scores import agreement
from benchmarks.data.stamps import Stamps
from benchmarks.fidelity import __main__ as fidelity
from benchmarks.fidelity import compare as compare_module
from benchmarks.fidelity import photographs
from benchmarks.fidelity import run as fidelity_run
from benchmarks.fidelity.compare import compare
from benchmarks.fidelity.predictions import read_predictions
from benchmarks.fidelity.probe import ask_probe
from benchmarks.fidelity.run import Job, ask_about_scene, create_run
from benchmarks.fidelity.scenes import Scene, make_data
from benchmarks.labels.labellers import LABELLERS, class_activation
from benchmarks.training import create_model, cutmix
from timm_sumix import MixedTarget

PREDICTIONS = Path(__file__).parent / 'data' / 'predictions.npz'


@pytest.mark.parametrize('recorded', json.loads(PREDICTIONS.with_suffix('.json').read_text())['rows'], ids=str)
def test_ratios_stay_as_true_as_they_were(recorded):
    rows = compare(read_predictions(PREDICTIONS), {})
    found, = (row for row in rows if all(row[key] == recorded[key] for key in ('label', 'strength', 'passes')))
    assert found['spearman'] == pytest.approx(recorded['spearman'], rel=0.01)
    assert found['mae'] == pytest.approx(recorded['mae'], rel=0.01)


def test_in_one_pass_labels_are_truer_than_the_area_and_nearly_as_true_as_in_two():
    rows = {(row['label'], row['strength'], row['passes']): row for row in compare(read_predictions(PREDICTIONS), {})}
    area = rows['area', None, 1]
    one, two = (rows['evidence', 1., passes] for passes in (1, 2))
    assert one['spearman'] > area['spearman'] + 0.1 and one['mae'] < 0.6 * area['mae']
    assert one['spearman'] > two['spearman'] - 0.04 and one['mae'] < two['mae'] + 0.03
    for ratio, strength in (('similarity', 2.), ('feature', 8.)):
        one, two = (rows[ratio, strength, passes] for passes in (1, 2))
        assert one['spearman'] > two['spearman'] and one['mae'] < two['mae'] + 0.01


def test_scores_say_how_far_labels_are_from_the_truth():
    true = torch.linspace(0, 1, 101)
    perfect, flat = agreement(true, true), agreement(torch.full_like(true, 0.5), true)
    assert perfect['spearman'] == pytest.approx(1.) and perfect['mae'] == perfect['calibration'] == 0.
    assert flat['mae'] == pytest.approx(0.2525, abs=1e-3) and flat['calibration'] == pytest.approx(0., abs=1e-6)
    assert agreement(1. - true, true)['spearman'] == pytest.approx(-1.)
    assert agreement((true + 0.2).clamp(max=1.), true)['calibration'] == pytest.approx(0.18, abs=1e-2)


def test_a_class_activation_map_is_the_classifiers_own_weighted_sum():
    model = create_model().eval()
    images, labels = torch.randn(3, 3, 32, 32), torch.tensor([1, 0, 7])
    with torch.no_grad():
        found = class_activation(model, images, labels)
        maps = model.forward_features(images)
        own = torch.stack([(maps[i] * model.head.fc.weight.view(10, -1, 1, 1)[label]).sum(0)
                           for i, label in enumerate(labels)])
    low, high = own.amin((1, 2), keepdim=True), own.amax((1, 2), keepdim=True)
    torch.testing.assert_close(found, (own - low) / (high - low), rtol=1e-3, atol=1e-4)


def test_the_truth_scores_perfectly_and_the_area_only_where_objects_fill_the_frame():
    _, test = make_data(Scene(data='digits'), 8, 256, seed=0)
    model = create_model().eval()
    batches, shares = ask_probe(model, test, cutmix(), 0, {'true': LABELLERS['true']})
    rows = {row['label']: row for row in compare(batches, shares)}
    assert rows['true']['mae'] < 1e-6 < 0.1 < rows['area']['mae']
    full = test._replace(masks=torch.ones_like(test.masks))
    rows = {row['label']: row for row in compare(*ask_probe(model, full, cutmix(), 0, {}))}
    assert rows['area']['mae'] < 1e-6


@pytest.mark.parametrize('probe', ['cnn', 'vit'])
def test_a_scene_is_run_from_end_to_end(probe, tmp_path):
    scene = Scene(data='digits', probe=probe, copies=2)
    name = 'share 0.2' if probe == 'cnn' else 'vit'
    rows = ask_about_scene(Job(name, scene, 128, 1, 200, 0, tmp_path / 'predictions.npz'))
    parts = {'scene', 'epochs', 'strengths', 'policies', 'modes'} if probe == 'cnn' else {'scene'}
    assert {row['part'] for row in rows} == parts
    assert ('transmix' if probe == 'vit' else 'snapmix') in {row['label'] for row in rows}
    if probe == 'cnn':
        saved = compare(read_predictions(tmp_path / 'predictions.npz'), {})
        assert ('evidence', 0., 1) in {(row['label'], row['strength'], row['passes']) for row in saved}
    else:  # a class token's logits cannot be unmixed
        assert ('similarity', 1) not in {(row['label'], row['passes']) for row in rows}


def test_photographs_are_asked_about_with_their_controls(monkeypatch):
    stamps = Stamps([np.full((20, 30, 4), 255, dtype=np.uint8)] * 2, ('one', 'two'))
    monkeypatch.setattr(photographs, 'load_stamps', lambda: stamps)
    monkeypatch.setattr(photographs, 'load_lite0', lambda: timm.create_model('tf_efficientnet_lite0').eval())
    monkeypatch.setattr(photographs, 'usable', lambda batches: torch.ones(8, dtype=torch.bool))
    monkeypatch.setattr(compare_module, 'usable', lambda batches: torch.ones(8, dtype=torch.bool))
    rows = photographs.ask_about_photographs('112, mode elem', 8, 0)
    found = {(row['label'], row['passes']) for row in rows}
    assert {('evidence', 1), ('evidence', 2), ('similarity', 1), ('central Gaussian', 0), ('area', 1)} <= found
    assert all(row['images'] == '112, mode elem' and row['pairs'] == 8 for row in rows)


def test_the_central_gaussian_sees_the_middle_alone():
    mask = torch.ones(2, 1, 14, 14, dtype=torch.bool)
    mask[:, :, 4:10, 4:10] = False  # the middle of both mixed images is the partner's
    target = MixedTarget(torch.arange(2), mask.float().mean((1, 2, 3)), 10, mask=mask)
    assert (photographs.central(None, None, target, None) < target.lam - 0.2).all()


def test_a_run_is_resumed_only_where_all_that_its_scores_depend_on_is_the_same(tmp_path):
    job = Job('several', Scene(), 128, 1, 100, 0)
    others = (job, job._replace(name='vit'), job._replace(images=64), job._replace(epochs=2),
              job._replace(test_images=50), job._replace(seed=1))
    assert len({create_run(other, tmp_path).folder for other in others}) == len(others)


def test_the_command_writes_the_rows_of_all_scenes_and_seeds(run_main, tmp_path, monkeypatch):
    monkeypatch.setattr(fidelity_run, 'ask_about_scene', lambda job: [{'scene': job.name, 'seed': job.seed}])
    run_main(fidelity, '--scenes', 'digits', '--shares', 0.2, '--seeds', 2, '--jobs', 1, '--runs', tmp_path / 'runs',
             '--out', tmp_path / 'fidelity.json')
    result = json.loads((tmp_path / 'fidelity.json').read_text())
    assert [(row['scene'], row['seed']) for row in result['rows']] == [
        ('share 0.2', 0), ('digits', 0), ('share 0.2', 1), ('digits', 1)]
    assert len(result['commit']) == 1 and result['seed'] == [0, 1]
