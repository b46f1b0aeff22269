"""The fidelity benchmark: its scores, its rivals, and that the library's ratios stay as true as they were."""
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from benchmarks.data.objects import load_digits_objects
from benchmarks.data.stamps import Stamps
from benchmarks.fidelity import compare as compare_module
from benchmarks.fidelity import kinds
from benchmarks.fidelity import run as fidelity_run
from benchmarks.fidelity.compare import compare
from benchmarks.fidelity.grid import Label, labels
from benchmarks.fidelity.kinds import Asked, make_canvases
from benchmarks.fidelity.predictions import read_predictions
from benchmarks.fidelity.probe import ask
from benchmarks.fidelity.run import Job, create_run
from benchmarks.labels.labellers import LABELLERS, class_activation
from benchmarks.training import create_model, cutmix
from timm_sumix import MixedTarget

PREDICTIONS = Path(__file__).parent / 'data' / 'predictions.npz'
CPU = torch.device('cpu')


@pytest.fixture
def digits(monkeypatch):
    """Have the canvases hold digits, which are always at hand."""
    monkeypatch.setattr(kinds, 'load_objects', lambda folder: load_digits_objects())


def _make(job, out):
    return fidelity_run.make(create_run(job, out), CPU)


@pytest.mark.parametrize('recorded', json.loads(PREDICTIONS.with_suffix('.json').read_text())['rows'], ids=str)
def test_ratios_stay_as_true_as_they_were(recorded):
    rows = compare(read_predictions(PREDICTIONS), {})
    found, = (row for row in rows if all(row[key] == recorded[key] for key in ('label', 'strength', 'passes')))
    assert found['spearman'] == pytest.approx(recorded['spearman'], rel=0.01)
    assert found['mae'] == pytest.approx(recorded['mae'], rel=0.01)


def test_a_class_activation_map_is_the_classifiers_own_weighted_sum():
    model = create_model().eval()
    images, labels = torch.randn(3, 3, 32, 32), torch.tensor([1, 0, 7])
    with torch.no_grad():
        found = class_activation(model, images, labels)
        own = torch.einsum('nchw,nc->nhw', model.forward_features(images), model.head.fc.weight.flatten(1)[labels])
    low, high = own.amin((1, 2), keepdim=True), own.amax((1, 2), keepdim=True)
    torch.testing.assert_close(found, (own - low) / (high - low), rtol=1e-3, atol=1e-4)


def test_the_truth_scores_perfectly_and_the_area_only_where_objects_fill_the_frame(digits):
    _, test = make_canvases(0.2, 8, 256, seed=0)
    asked = Asked(create_model().eval(), test, cutmix(), {'true': LABELLERS['true']})
    rows = {row['label']: row for row in compare(*ask(asked, 0))}
    assert rows['true']['mae'] < 1e-6 < 0.1 < rows['area']['mae']
    full = asked._replace(data=test._replace(masks=torch.ones_like(test.masks)), labellers={})
    assert {row['label']: row for row in compare(*ask(full, 0))}['area']['mae'] < 1e-6


@pytest.mark.parametrize('name', ['share 0.2', 'vit'])
def test_canvases_are_asked_about_from_end_to_end(name, digits, tmp_path):
    rows = _make(Job(name, 128, 1, 200, 0, predictions=tmp_path / 'predictions.npz'), tmp_path)['rows']
    assert {row['part'] for row in rows} == ({'scene'} if name == 'vit' else {'scene', 'policies'})
    assert ('transmix' if name == 'vit' else 'snapmix') in {row['label'] for row in rows}
    assert rows[0]['scene'] == name and rows[0]['pairs'] > 100 and 0 <= rows[0]['top1'] <= 100
    assert {1, 2} == {row['passes'] for row in rows if row['label'] == 'similarity'}
    if name != 'vit':
        saved = compare(read_predictions(tmp_path / 'predictions.npz'), {})
        assert ('evidence', 0., 1) in {(row['label'], row['strength'], row['passes']) for row in saved}


def test_the_grid_scores_each_label_over_the_area(digits, tmp_path):
    result = _make(Job('drawn 14', 128, 1, 200, 0, grid=True), tmp_path)
    assert result['images'] == 'drawn 14' and result['pairs'] > 100 and result['area'] > 0
    over = dict(zip(labels(), result['over_area'], strict=True))
    assert over[Label((0., 0., 0.))] == 1. and 0 < over[Label((1., 0., 1.))] < 2.


def test_photographs_are_asked_about_with_their_controls(monkeypatch, tmp_path):
    stamps = Stamps([np.full((20, 30, 4), 255, dtype=np.uint8)] * 2, ('one', 'two'))
    monkeypatch.setattr(kinds, 'load_stamps', lambda: stamps)
    monkeypatch.setattr(kinds, 'load_lite0', lambda: timm.create_model('tf_efficientnet_lite0').eval())
    for module in (fidelity_run, compare_module):
        monkeypatch.setattr(module, 'usable', lambda batches: torch.ones(8, dtype=torch.bool))
    rows = _make(Job('112, mode elem', 0, 0, 8, 0), tmp_path)['rows']
    found = {(row['label'], row['passes']) for row in rows}
    assert {('evidence', 1), ('evidence', 2), ('similarity', 1), ('central Gaussian', 0), ('area', 1)} <= found
    assert all(row['images'] == '112, mode elem' and row['pairs'] == 8 for row in rows)


def test_the_central_gaussian_sees_the_middle_alone():
    mask = torch.ones(2, 1, 14, 14, dtype=torch.bool)
    mask[:, :, 4:10, 4:10] = False  # the middle of both mixed images is the partner's
    target = MixedTarget(torch.arange(2), mask.float().mean((1, 2, 3)), 10, mask=mask)
    assert (kinds.central(None, None, target, None) < target.lam - 0.2).all()


def test_a_run_is_resumed_only_where_all_that_its_scores_depend_on_is_the_same(tmp_path):
    def folder(**changes):
        return create_run(Job('share 0.2', 128, 1, 100, 0)._replace(**changes), tmp_path).folder

    others = ({}, {'name': 'vit'}, {'images': 64}, {'epochs': 2}, {'test_images': 50}, {'seed': 1}, {'name': '80'})
    assert len({folder(**other) for other in others}) == len(others)
    assert folder(name='80') == folder(name='80', epochs=2)  # nothing is trained
