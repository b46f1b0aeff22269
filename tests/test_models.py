"""Models of the small-image tables, against published sizes."""
import pytest
import timm
import torch

from benchmarks import models


@pytest.mark.parametrize('name, kwargs, millions, size', [
    ('resnet18_cifar', {'num_classes': 100}, 11.2, 4),
    ('resnext50_32x4d_cifar', {'num_classes': 1000}, 25.0, 4),  # as published for ImageNet: the stem hardly counts
    ('wide_resnet28_8', {'num_classes': 100}, 23.4, 8),
    ('wide_resnet28_8', {'num_classes': 10, 'channels': (160, 320, 640)}, 36.5, 8),  # WRN-28-10 of the paper
    ('wide_resnet10_1', {'num_classes': 10}, 0.08, 8)])
def test_sizes_are_those_published_and_feature_maps_those_of_a_stem_for_small_images(name, kwargs, millions, size):
    count = sum(parameter.numel() for parameter in timm.create_model(name, **kwargs).parameters())
    assert round(count / 1e6, 2 if millions < 1 else 1) == millions
    assert name in models.__all__ and timm.is_model(name)
    model, x = timm.create_model(name, num_classes=7, in_chans=1).eval(), torch.rand(2, 1, 32, 32)
    assert model.pretrained_cfg['input_size'] == (3, 32, 32)
    features = model.forward_features(x)
    assert features.shape[1:] == (model.num_features, size, size) and model(x).shape == (2, 7)
