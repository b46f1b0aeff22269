"""The picture of the problem: what it mixes, and that its true shares are counted."""
import pytest
import timm
import torch
from PIL import Image

from benchmarks import problem


@pytest.mark.parametrize('first, second, box', problem.MIXTURES)
def test_shares_by_area_and_in_truth_are_what_is_counted(first, second, box):
    mixed, target, true = problem.mix(first, second, box)
    (image, own), (other, others) = (problem.load(problem.PHOTOGRAPHS[name]) for name in (first, second))
    top, bottom, left, right = box
    inside = torch.zeros(1, problem.SIDE, problem.SIDE, dtype=torch.bool)
    inside[:, top:bottom, left:right] = True
    torch.testing.assert_close(mixed[0], torch.where(inside, other, image))
    assert target.lam[0].item() == pytest.approx(1 - inside.float().mean().item(), abs=1e-6)
    a, b = own[~inside].sum() / own.sum(), others[inside].sum() / others.sum()
    assert true == pytest.approx((a / (a + b)).item(), abs=1e-5)
    assert 0.01 < own.mean() < 0.97 and 0.01 < others.mean() < 0.97  # an object, and not all of the image


def test_the_picture_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(problem, 'load_lite0', lambda: timm.create_model('tf_efficientnet_lite0').eval())
    monkeypatch.setattr('sys.argv', ['problem', '--out', str(tmp_path / 'problem.png')])
    problem.main()
    assert Image.open(tmp_path / 'problem.png').size == (1250, 460)
