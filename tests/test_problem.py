"""The picture of the problem: what it mixes, and that its true shares are counted."""
import pytest
import timm
import torch
from PIL import Image

from benchmarks import problem


@pytest.mark.parametrize('first, second, box', [
    ('rocket', 'coffee', (67, 224, 35, 155)), ('camera', 'motorcycle', (0, 130, 10, 224)),
    ('cat', 'rocket', (58, 216, 20, 91))])
def test_shares_by_area_and_in_truth_are_what_is_counted(first, second, box):
    mixed, target, true = problem.mix(first, second, box)
    (image, own), (other, others) = (problem.load(name) for name in (first, second))
    top, bottom, left, right = box
    inside = torch.zeros(1, problem.SIDE, problem.SIDE, dtype=torch.bool)
    inside[:, top:bottom, left:right] = True
    torch.testing.assert_close(mixed[0], torch.where(inside, other, image))
    assert target.lam[0].item() == pytest.approx(1 - inside.float().mean().item(), abs=1e-6)
    a, b = own[~inside].sum() / own.sum(), others[inside].sum() / others.sum()
    assert true == pytest.approx((a / (a + b)).item(), abs=1e-5)
    assert 0.01 < own.mean() < 0.97 and 0.01 < others.mean() < 0.97  # an object, and not all of the image


def test_the_picture_is_drawn_by_its_rule(tmp_path, monkeypatch):
    model = timm.create_model('tf_efficientnet_lite0').eval()
    found = problem.label_random(model, ('area',), seed=0)
    errors = [abs(each.shares[0] - each.shares[2]) for each in found]
    assert len(found) == problem.DRAWN and errors == sorted(errors, reverse=True) and min(errors) > 0
    assert all(each.shares[0] == pytest.approx(each.shares[1], abs=1e-6) for each in found)
    monkeypatch.setattr(problem, 'load_lite0', lambda: model)
    monkeypatch.setattr(problem, 'label_random', lambda *_: found)
    monkeypatch.setattr('sys.argv', ['problem', '--out', str(tmp_path / 'problem.png')])
    problem.main()
    assert Image.open(tmp_path / 'problem.png').size == (1562, 459)
