"""Where the last feature map of a model is found, at construction, and what is said where there is none."""
import logging

import pytest
import timm
import torch

from timm_sumix import SUMixMixup, SUMixTask, correct
from timm_sumix.maps import (
    FEATURES,
    INTERMEDIATES,
    NO_MAP,
    Found,
    features_by_place,
    find_map,
    watch_features,
    with_features,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def _task(model, **options):
    return SUMixTask(model, SUMixMixup(0., 1., mode='pair', num_classes=10), verbose=False, **options)


@pytest.mark.parametrize('name, side, grid', [
    pytest.param('coat_tiny', 224, (7, 7), marks=pytest.mark.slow),
    ('crossvit_tiny_240', 240, (14, 14)), ('efficientvim_m1', 224, (4, 4)), ('pit_ti_224', 224, (7, 7))])
@pytest.mark.parametrize('original_pass', ['none', 'no-grad'])
def test_models_of_several_grids_or_class_tokens_give_their_map_beside_the_same_output(
        name, side, grid, original_pass):
    if not timm.is_model(name):
        pytest.skip(f'timm {timm.__version__} has no {name}')
    model = timm.create_model(name, num_classes=10)
    if not hasattr(model, 'forward_intermediates'):  # CrossViT of timm 1.0.27: no map, and a warning says so
        pytest.skip(f'timm {timm.__version__} gives no maps of {name}')
    task = _task(model, original_pass=original_pass)
    images = torch.randn(2, 3, side, side)
    module = task.get_trainable_module()
    assert module.found.source == INTERMEDIATES and not module.found.head_reads_map
    mixed, target = task.mixup(images, torch.arange(2))
    result = task(mixed, target)
    result['loss'].backward()
    assert result['loss'].isfinite() and all(parameter.grad is not None for parameter in module.parameters())
    model.eval()
    with torch.no_grad():
        output, unmixed = module(mixed, *((None, target.mixing) if original_pass == 'none' else (images,)))
        torch.testing.assert_close(output.logits, model(mixed))
    assert unmixed.evidence.shape == (2, *grid) and unmixed.evidence.std() > 0
    if original_pass == 'none':
        assert unmixed.features.std() > 0
    else:  # which tells the logits, so that features need not be averaged
        assert unmixed.features is None and unmixed.logits.std() > 0


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
    mixed, target = task.mixup(torch.randn(4, 3, 128, 128), torch.arange(4))
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

        def forward(self, x):
            return self.forward_head(self.forward_features(x))

    with caplog.at_level(logging.WARNING):
        task = _task(Pooled())
    assert 'no feature map' in caplog.text and task.get_trainable_module().found.source == NO_MAP
    mixed, target = task.mixup(torch.randn(4, 3, 8, 8), torch.arange(4))
    torch.testing.assert_close(task(mixed, target)['lam'], target.lam)


def test_looking_for_the_map_changes_nothing_in_the_model():
    model = timm.create_model('test_resnet', num_classes=10, in_chans=1).train()
    model.bn1.eval()  # frozen by its user
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert find_map(model) == Found(FEATURES, head_reads_map=True, is_plain=True)
    assert 'forward_features' not in vars(model)
    assert model.training and not model.bn1.training and model.layer1.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_map_is_looked_for_once_in_each_model_and_pooling():
    seen = []
    model = timm.create_model('test_resnet', num_classes=10).eval()
    model.register_forward_hook(lambda *_: seen.append('all'))
    model.conv1.register_forward_hook(lambda *_: seen.append('stem'))
    mixed, target = SUMixMixup(0., 1., num_classes=10)(torch.randn(4, 3, 64, 64), torch.arange(4))
    for _ in range(3):
        correct(model, mixed, target)
    assert seen == ['stem'] * 3 + ['stem', 'all'] * 3  # a trial, which the model's own hooks do not see; three batches
    vit = timm.create_model('test_vit', num_classes=10, img_size=32)
    assert not find_map(vit).head_reads_map
    vit.reset_classifier(10, 'avg')
    assert find_map(vit).head_reads_map


@pytest.mark.parametrize('name, kwargs, reads_map', [
    ('test_resnet', {}, True), ('test_convnext', {}, True), ('test_efficientnet', {}, True),
    ('swin_s3_tiny_224', {'embed_dim': 24, 'num_heads': (1, 1, 2, 2)}, True),  # channels last
    ('mobilevitv2_050', {}, True), ('mixer_s32_224', {}, True), ('xcit_nano_12_p16_224', {}, False),
    ('test_vit', {}, False), ('test_vit', {'global_pool': 'avg'}, True), ('test_vit', {'fc_norm': True}, False),
    ('test_vit', {'global_pool': 'avg', 'class_token': False}, True),
    ('test_vit', {'global_pool': 'avg', 'reg_tokens': 4}, True),
    ('deit_tiny_distilled_patch16_224', {'depth': 2, 'embed_dim': 24}, False),
    ('cait_xxs24_224', {'depth': 2, 'embed_dim': 24, 'num_heads': 2}, False),
])
@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_whether_the_head_reads_the_map_alone_is_found(name, kwargs, reads_map, device):
    model = timm.create_model(name, num_classes=10, **kwargs).to(device)
    assert find_map(model) == Found(FEATURES, reads_map, is_plain=True)


class _Centred(torch.nn.Module):
    """A head that reads what a norm leaves of a class token, which a shift of all channels does not change."""
    num_features = num_classes = 4
    num_prefix_tokens = 1
    pretrained_cfg = {'input_size': (3, 8, 8)}
    feature_info = [{'reduction': 4}]

    def __init__(self):
        super().__init__()
        self.token = torch.nn.Parameter(torch.tensor([1., 2., 3., 6.]))

    def forward_features(self, x):
        places = torch.nn.functional.avg_pool2d(x, 4).mean(1).flatten(1)
        return torch.cat([self.token.expand(len(x), 1, 4), places.unsqueeze(2).expand(-1, -1, 4)], dim=1)

    def forward_head(self, x, pre_logits=False):
        return x[:, 0] - x[:, 0].mean(1, keepdim=True)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def test_a_class_token_behind_a_norm_or_an_attention_is_found():
    for model in (_Centred(), timm.create_model('test_vit', global_pool='map', pool_include_prefix=True)):
        assert find_map(model) == Found(FEATURES, head_reads_map=False)


@pytest.mark.parametrize('name, kwargs', [
    ('test_resnet', {}), ('test_vit', {}), ('test_vit', {'class_token': False, 'global_pool': 'avg', 'reg_tokens': 3}),
    ('swin_s3_tiny_224', {'embed_dim': 24, 'num_heads': (1, 1, 2, 2), 'img_size': 64, 'window_size': 2})])
def test_other_features_are_put_in_the_places_of_the_map(name, kwargs):
    model = timm.create_model(name, num_classes=10, **({'img_size': 64} if 'vit' in name else {}), **kwargs)
    maps = model.forward_features(torch.randn(2, 3, 64, 64))
    features = features_by_place(model, maps, (64, 64))
    assert torch.equal(with_features(model, maps, features), maps)
    changed = with_features(model, maps, features + 1.)
    torch.testing.assert_close(features_by_place(model, changed, (64, 64)), features + 1.)
    prefix = getattr(model, 'num_prefix_tokens', 0)
    assert torch.equal(changed[:, :prefix], maps[:, :prefix]) or not prefix


def test_watching_leaves_the_model_as_it_was_and_sees_its_own_call():
    model = timm.create_model('test_resnet', num_classes=10).eval()
    x = torch.randn(2, 3, 64, 64)
    with pytest.raises(ZeroDivisionError), watch_features(model, FEATURES) as seen:
        logits = model(x)
        raise ZeroDivisionError
    assert 'forward_features' not in vars(model) and len(seen) == 1
    assert torch.equal(model.forward_head(seen[0][0]), logits)
    model.forward_features = own = lambda x: type(model).forward_features(model, x)
    with watch_features(model, FEATURES) as seen:
        model(x)
    assert model.forward_features is own and len(seen) == 1


def test_a_model_made_for_images_of_which_the_map_is_one_place_is_told_of(caplog):
    model = timm.create_model('test_resnet', num_classes=10)
    model.pretrained_cfg = {**model.pretrained_cfg, 'input_size': (3, 32, 32)}
    with caplog.at_level(logging.WARNING):
        assert find_map(model).source == NO_MAP
    assert 'single place' in caplog.text


@pytest.mark.parametrize('size, source', [((32, 32), NO_MAP), ((32, 64), FEATURES), ((64, 64), FEATURES)])
def test_the_map_is_looked_for_at_the_size_of_the_images_without_a_trace(size, source):
    model = timm.create_model('test_resnet', num_classes=10).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert find_map(model, size).source == find_map(model).source == source
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()) and model.training
    assert find_map(timm.create_model('test_vit', num_classes=10), (33, 33)) == Found()  # takes no such images


@pytest.mark.parametrize('options', [
    {}, {'ratio': 'feature'}, {'original_pass': 'no-grad'}, {'fade': 0.5}, {'gamma': 0.5}], ids=str)
def test_a_single_place_keeps_the_area_and_the_logger_says_so_once(caplog, recwarn, options):
    task = _task(timm.create_model('test_resnet', num_classes=10), **options)
    mixed, target = task.mixup(torch.randn(4, 3, 32, 32), torch.arange(4))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            result = task(mixed, target)
            result['loss'].backward()
            torch.testing.assert_close(correct(task.get_eval_model(), mixed, target), target.lam)
    torch.testing.assert_close(result['lam'], target.lam)
    assert not recwarn.list
    message, = (record.getMessage() for record in caplog.records if 'single place' in record.getMessage())
    assert '32 x 32' in message and 'output_stride=8' in message


def test_similarity_of_a_single_place_is_corrected_all_the_same():
    task = _task(timm.create_model('test_resnet', num_classes=10), ratio='similarity')
    mixed, target = task.mixup(torch.randn(4, 3, 32, 32), torch.arange(4))
    assert not torch.allclose(task(mixed, target)['lam'], target.lam)


def test_what_was_found_is_looked_for_anew_where_the_model_takes_another_size():
    model = timm.create_model('test_vit', img_size=16, patch_size=16, global_pool='avg', num_classes=4)
    assert find_map(model).source == NO_MAP  # a single place
    model.set_input_size(img_size=64)
    assert find_map(model).source == FEATURES and find_map(model).head_reads_map
    model.reset_classifier(4, global_pool='token')
    assert not find_map(model).head_reads_map
