"""Where the last feature map of a model is found, at construction, and what is said where there is none."""
import logging
import warnings

import pytest
import timm
import torch

from timm_sumix import MixedTarget, SUMixMixup, SUMixOptions, SUMixTask, correct
from timm_sumix.maps import FEATURES, INTERMEDIATES, NO_MAP, features_by_place, find_map


def _task(model, **options):
    mixup = SUMixMixup(0., 1., mode='elem', num_classes=10)
    return SUMixTask(model, mixup, verbose=False, **{'original_pass': 'none', **options})


@pytest.mark.parametrize('name, side, grid, original_pass', [
    pytest.param('coat_tiny', 224, (7, 7), 'none', marks=pytest.mark.slow),
    ('crossvit_tiny_240', 240, (14, 14), 'none'),
    ('efficientvim_m1', 224, (4, 4), 'none'), ('pit_ti_224', 224, (7, 7), 'none'), ('pit_ti_224', 224, None, 'no-grad'),
])
def test_models_of_several_grids_or_class_tokens_give_their_map_beside_the_same_output(
        name, side, grid, original_pass):
    model = timm.create_model(name, num_classes=10)
    task = _task(model, original_pass=original_pass)
    images = torch.randn(2, 3, side, side)
    module = task.get_trainable_module()
    assert module.map_source == INTERMEDIATES
    result = task(images, torch.arange(2))
    result['loss'].backward()
    assert result['loss'].isfinite() and all(parameter.grad is not None for parameter in module.parameters())
    model.eval()
    with torch.no_grad():
        output, _ = module(images)
        torch.testing.assert_close(output.logits, model(images))
    if original_pass == 'none':
        assert output.evidence.shape == (2, *grid) and output.evidence.std() > 0


@pytest.mark.parametrize('name, size, grid, kwargs', [
    ('xcit_nano_12_p16_224', (96, 40), (6, 3), {}),
    ('mvitv2_tiny', (96, 40), (3, 2), {}),
    ('test_vit', (33, 64), (3, 4), {'dynamic_img_size': True, 'dynamic_img_pad': True}),
    ('test_vit', (96, 32), (6, 2), {'dynamic_img_size': True}),
    ('test_vit', (32, 96), (2, 6), {'dynamic_img_size': True}),
])
def test_the_grid_of_tokens_is_the_models_own(name, size, grid, kwargs):
    model = timm.create_model(name, num_classes=10, **kwargs)
    maps = model.forward_features(torch.randn(1, 3, *size))
    assert features_by_place(model, maps, size).shape[1:3] == grid


def _marked_tokens(height, width):
    """Return tokens [1, 1 + T, 1] that hold their own position; the class token first."""
    return torch.arange(-1., height * width).view(1, -1, 1)


def test_tokens_are_laid_out_row_by_row():
    class Model(torch.nn.Module):
        num_prefix_tokens = 1
        feature_info = [{'reduction': 16}]

    features = features_by_place(Model(), _marked_tokens(2, 6), (32, 96))
    assert torch.equal(features[0, :, :, 0], torch.arange(12.).view(2, 6))


def test_a_number_of_tokens_that_no_reduction_gives_is_refused():
    with pytest.raises(TypeError, match='grid of tokens'):
        features_by_place(torch.nn.Identity(), torch.zeros(1, 14, 5), (64, 64))


def test_with_patch_drop_labels_stay_by_area_and_it_is_said(caplog):
    model = timm.create_model('test_vit', num_classes=10, img_size=128, patch_drop_rate=0.75)
    with caplog.at_level(logging.WARNING):
        task = _task(model)
    assert 'drops patches' in caplog.text and 'by area' in caplog.text
    images = torch.randn(4, 3, 128, 128)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        mixed, target = task.mixup(images, torch.arange(4))
        result = task(mixed, target)
    torch.testing.assert_close(result['lam'], target.lam)
    result['loss'].backward()


def test_a_model_without_any_map_keeps_labels_by_area_and_it_is_said(caplog):
    class Pooled(torch.nn.Module):
        num_classes = num_features = 10
        pretrained_cfg = {'input_size': (3, 8, 8)}

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(192, 10)

        def forward_features(self, x):
            return self.layer(x.flatten(1))

        def forward_head(self, x, pre_logits=False):
            return x

    with caplog.at_level(logging.WARNING):
        task = _task(Pooled())
    assert 'no feature map' in caplog.text and task.get_trainable_module().map_source == NO_MAP
    mixed, target = task.mixup(torch.randn(4, 3, 8, 8), torch.arange(4))
    torch.testing.assert_close(task(mixed, target)['lam'], target.lam)


def test_looking_for_the_map_changes_nothing_in_the_model():
    model = timm.create_model('test_resnet', num_classes=10, in_chans=1).train()
    model.bn1.eval()  # frozen by its user
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert find_map(model) == FEATURES
    assert model.training and not model.bn1.training and model.layer1.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_map_is_looked_for_once_in_each_model():
    seen = []
    model = timm.create_model('test_resnet', num_classes=10).eval()
    model.register_forward_hook(lambda *_: seen.append('all'))
    model.conv1.register_forward_hook(lambda *_: seen.append('stem'))
    mixed, target = SUMixMixup(0., 1., num_classes=10)(torch.randn(4, 3, 64, 64), torch.arange(4))
    for _ in range(3):
        correct(model, mixed, target, SUMixOptions(original_pass='none'))
    assert seen == ['stem'] * 4  # one trial image, three batches


def test_a_model_made_for_images_of_which_the_map_is_one_place_is_told_of(caplog):
    model = timm.create_model('test_resnet', num_classes=10)
    model.pretrained_cfg = {**model.pretrained_cfg, 'input_size': (3, 32, 32)}
    with caplog.at_level(logging.WARNING):
        assert find_map(model) == NO_MAP
    assert 'single place' in caplog.text


def test_a_single_place_in_the_mixed_image_warns_and_keeps_the_area():
    task = _task(timm.create_model('test_resnet', num_classes=10))
    lam = torch.tensor([0.3, 0.8])
    mask = (torch.arange(32).view(1, 1, 1, 32) < 32 * lam.view(2, 1, 1, 1)).expand(2, 1, 32, 32)
    target = MixedTarget(torch.arange(2), mask.float().mean((1, 2, 3)), 10, mask=mask)
    with pytest.warns(UserWarning, match='single place'):
        result = task(torch.randn(2, 3, 32, 32), target)
    torch.testing.assert_close(result['lam'], target.lam)
