"""The picture of class activation maps."""
import pytest
import torch
from PIL import Image

from benchmarks import cams


def test_maps_of_two_models_make_one_picture(monkeypatch, run_main, tmp_path, checkpoints):
    pytest.importorskip('pytorch_grad_cam')
    data = torch.rand(64, 3, 32, 32) * 2 - 1, torch.rand(64, 32, 32) < 0.3, torch.randint(0, 10, (64,))
    monkeypatch.setattr(cams, 'make_data', lambda setting, seed: (None, data))
    run_main(cams, *checkpoints, '--out', tmp_path / 'cams.jpg')
    assert min(Image.open(tmp_path / 'cams.jpg').size) > 400
