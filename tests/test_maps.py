"""Where the last feature map of a model is found, with its first images, and what is said where there is none."""
import copy
import logging
import re
from types import SimpleNamespace

import pytest
import timm
import torch
from helpers import make_task, random_images
from torch import nn
from torch.utils._pytree import tree_map

from timm_sumix import SUMixMixup, SUMixOptions, correct
from timm_sumix.maps import features_by_place, find_map, with_features


def _model(name='test_resnet', **kwargs):
    if not timm.is_model(name):
        pytest.skip(f'timm {timm.__version__} has no {name}')
    return timm.create_model(name, num_classes=10, **kwargs)


@pytest.mark.parametrize('name, side, grid', [
    pytest.param('coat_tiny', 224, (7, 7), marks=pytest.mark.slow),
    ('crossvit_tiny_240', 240, (14, 14)), ('efficientvim_m1', 224, (4, 4)), ('pit_ti_224', 224, (7, 7))])
@pytest.mark.parametrize('made', ['none', 'no-grad'])
def test_models_of_several_grids_or_class_tokens_give_their_map_beside_the_same_output(name, side, grid, made):
    model = _model(name)
    if not hasattr(model, 'forward_intermediates'):  # CrossViT of timm 1.0.27: no map, and a warning says so
        pytest.skip(f'timm {timm.__version__} gives no maps of {name}')
    task, (images, labels) = make_task(model, original_pass=made, ratio='combined'), random_images(2, side)
    mixed, target = task.mixup(images, labels)
    result, module = task(mixed, target), task.get_trainable_module()
    assert module.found.source == 'forward_intermediates'
    result['loss'].backward()
    assert result['loss'].isfinite() and all(parameter.grad is not None for parameter in module.parameters())
    model.eval()
    with torch.no_grad():
        output, unmixed = module(mixed, *((None, target.mixing) if made == 'none' else (images,)))
        torch.testing.assert_close(output.logits, model(mixed))
    assert unmixed.evidence.shape == (2, *grid) and unmixed.evidence.std() > 0
    assert unmixed.logits.std() > 0 and unmixed.features is None
    if made == 'none':  # the head does not read the map: what it reads is unmixed by area
        tokens, lam = tree_map(torch.Tensor.detach, model.forward_intermediates(mixed)[0]), target.lam
        by_area = tree_map(lambda part: torch.stack([
            share * own + (1. - share) * other for share, own, other in zip(lam, part, part.flip(0))]), tokens)
        torch.testing.assert_close(unmixed.logits, model.forward_head(by_area))


@pytest.mark.parametrize('name', ['coat_lite_tiny', 'volo_d1_224', 'tnt_s_legacy_patch16_224'])
def test_a_class_token_is_found_for_images_of_another_size_than_the_models_usual_one(name):
    model = _model(name, img_size=160).eval()
    mixed, target = SUMixMixup(0., 1., mode='pair', num_classes=10)(*random_images(2, 160))
    assert find_map(model, mixed[:1]).source == 'forward_features'
    one, two = (
        correct(model, mixed, target, SUMixOptions('evidence', original_pass=made)) for made in ('none', 'no-grad'))
    assert ((one - two).abs() < (target.lam - two).abs()).all()
    make_task(model, gamma=0.5)(mixed, target)['loss'].backward()


@pytest.mark.parametrize('name, size, grid, kwargs', [
    ('xcit_nano_12_p16_224', (96, 40), (6, 3), {}),
    ('mvitv2_tiny', (96, 40), (3, 2), {}),
    ('test_vit', (33, 64), (3, 4), {'dynamic_img_size': True, 'dynamic_img_pad': True}),
    ('test_vit', (96, 32), (6, 2), {'dynamic_img_size': True}),
    ('test_vit', (32, 96), (2, 6), {'dynamic_img_size': True}),
])
def test_the_grid_of_tokens_is_the_models_own(name, size, grid, kwargs):
    model = _model(name, **kwargs)
    maps = model.forward_features(torch.randn(1, 3, *size))
    assert features_by_place(model, maps, size).shape[1:3] == grid


LAYOUT = SimpleNamespace(num_features=5, num_prefix_tokens=1)


def test_every_layout_gives_the_same_map():
    maps = torch.randn(3, 5, 4, 6)
    tokens = torch.cat([torch.randn(3, 1, 5), maps.flatten(2).mT], dim=1)
    for model, layout in (
            (LAYOUT, maps), (LAYOUT, maps.permute(0, 2, 3, 1)), (LAYOUT, tokens),
            # of a model that has neither attribute: channels first, and a class token where the others form a grid
            (nn.Identity(), maps), (nn.Identity(), tokens), (nn.Identity(), tokens[:, 1:])):
        assert torch.equal(features_by_place(model, layout, (64, 96)), maps.permute(0, 2, 3, 1))


@pytest.mark.parametrize('model, maps', [
    (LAYOUT, torch.zeros(3, 5)), (LAYOUT, torch.zeros(3, 12, 5)), (LAYOUT, [torch.zeros(3, 5, 4, 4)]),
    (nn.Identity(), torch.zeros(3, 2, 5)),  # tokens of a class and of distillation
    (nn.Identity(), torch.zeros(3, 14, 5))])
def test_what_has_no_place_is_refused(model, maps):
    with pytest.raises(TypeError, match="forward_features must return maps .*use ratio 'similarity'"):
        features_by_place(model, maps, (64, 96))


class _Pooled(nn.Module):
    """A model of two parts, without a map."""
    num_classes, num_features = 10, 3

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 10)

    def forward_features(self, x):
        return x.mean((2, 3))

    def forward_head(self, x, pre_logits=False):
        return x if pre_logits else self.layer(x)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


@pytest.mark.parametrize('create, side, reason', [
    (lambda: _model('test_vit', img_size=128, patch_drop_rate=0.75), 128, 'patches are dropped at random'),
    (_Pooled, 8, 'neither forward_features nor forward_intermediates returns a grid'),
    (_model, 32, 'the map has a single place for images of 32 x 32 .--model-kwargs output_stride=8'),
])
def test_without_a_map_labels_stay_by_area_which_one_warning_says(caplog, recwarn, create, side, reason):
    for options in (
            {}, {'ratio': 'feature'}, {'ratio': 'similarity'}, {'ratio': 'evidence', 'original_pass': 'no-grad'}):
        caplog.clear()
        task = make_task(create(), verbose=True, **options)
        mixed, target = task.mixup(*random_images(4, side))
        for _ in range(2):
            result = task(mixed, target)
        result['loss'].backward()
        torch.testing.assert_close(result['lam'], target.lam)
        torch.testing.assert_close(correct(task.get_eval_model(), mixed, target, SUMixOptions(**options)), target.lam)
        warning, = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
        assert re.search(f'{reason}.*labels stay as they are by area', warning) and not recwarn.list
        assert not task.get_trainable_module().found.source
    task = make_task(create(), gamma=0.5)
    for _ in range(2):  # in a later step too
        with pytest.raises(ValueError, match=f"the uncertainty term needs logits .*{reason}.*use original_pass 'grad'"):
            task(mixed, target)
    for made in ('no-grad', 'grad'):  # the logits are those of the second pass
        result = make_task(create(), ratio='combined', gamma=0.5, original_pass=made)(mixed, target)
        assert torch.allclose(result['lam'], target.lam) and result['uncertainty'] > 0
    task = make_task(create(), ratio='similarity', original_pass='no-grad')  # which the warning names
    assert not torch.allclose(task(mixed, target)['lam'], target.lam, rtol=0, atol=1e-7)


def test_later_images_of_which_the_map_is_a_single_place_keep_the_area_which_one_warning_says(caplog):
    task = make_task(_model(), verbose=True)
    task.prepare(random_images(1, 64)[0])
    mixed, target = task.mixup(*random_images(4))
    for _ in range(2):
        torch.testing.assert_close(task(mixed, target)['lam'], target.lam)
    warning, = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert 'a single place for images of 32 x 32: labels stay as they are by area' in warning


def test_an_error_of_the_model_is_raised_and_does_not_pass_for_knowledge(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError('out of memory')

    monkeypatch.setattr(_Pooled, 'forward_head', fail)
    with pytest.raises(RuntimeError, match='out of memory'):
        make_task(_Pooled())(*random_images(4, 8))


def test_looking_for_the_map_changes_nothing_in_the_model_and_happens_once():
    model, stems, modes = _model(in_chans=1, drop_rate=0.5).train(), [], []
    model.bn1.eval()  # frozen by its user
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    parts, train = dict(vars(model)), model.conv1.train
    # as modules of timm 1.0.27 that clear there what they keep for eval mode
    model.conv1.train = lambda mode=True: (modes.append(mode), train(mode))[1]
    found = find_map(model, torch.randn(1, 1, 64, 64, generator=torch.Generator()))
    assert found.source == 'forward_features' and modes == [False, True]
    assert torch.equal(torch.get_rng_state(), state) and vars(model) == parts
    assert model.training and not model.bn1.training and model.layer1.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    task = make_task(_model())
    task.prepare(random_images(4, 64)[0])
    task.get_eval_model().conv1.register_forward_hook(lambda *_: stems.append(1))
    for count in (4, 6, 4):
        task(*random_images(count, 64))
    assert len(stems) == 3


@pytest.mark.parametrize('name, kwargs', [
    ('test_resnet', {}), ('test_vit', {}), ('test_vit', {'class_token': False, 'global_pool': 'avg', 'reg_tokens': 3}),
    ('swin_s3_tiny_224', {'embed_dim': 24, 'num_heads': (1, 1, 2, 2), 'img_size': 64, 'window_size': 2})])
def test_other_features_are_put_in_the_places_of_the_map(name, kwargs):
    model = _model(name, **({'img_size': 64} if 'vit' in name else {}), **kwargs)
    maps = model.forward_features(torch.randn(2, 3, 64, 64))
    features = features_by_place(model, maps, (64, 64))
    source = 'forward_features'
    assert torch.equal(with_features(model, source, maps, features, lambda tokens: tokens), maps)
    changed = with_features(model, source, maps, features + 1., lambda tokens: tokens * 2.)
    torch.testing.assert_close(features_by_place(model, changed, (64, 64)), features + 1.)
    prefix = getattr(model, 'num_prefix_tokens', 0)
    assert torch.equal(changed[:, :prefix], maps[:, :prefix] * 2.) or not prefix


# A head that is called again

@pytest.mark.parametrize('name, side, options, compiled', [
    *(('mobilenetv4_conv_small', 64, options, False) for options in ({}, {'ratio': 'combined'}, {'gamma': 0.5})),
    ('mobilenetv4_conv_small', 64, {'gamma': 0.5}, True), ('levit_128s', 128, {}, False)])
def test_batch_norm_in_a_head_counts_the_mixed_batch_once(name, side, options, compiled):
    torch._dynamo.reset()
    model = _model(name, **({'img_size': side} if 'levit' in name else {}))
    plain, task = copy.deepcopy(model), make_task(model, **options)
    mixed, target = task.mixup(*random_images(6, side))
    if compiled:
        task.compile(backend='eager')
    plain(mixed)
    result = task(mixed, target)
    result['loss'].backward()
    assert any(isinstance(module, nn.modules.batchnorm._NormBase) for module in task.get_trainable_module().found.noisy)
    assert (result['lam'] - target.lam).abs().max() > 1e-3
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, msg=key)
        assert 'num_batches_tracked' not in key or value == 1
    flags, plains = (
        [(one.training, getattr(one, 'track_running_stats', None)) for one in own.modules()] for own in (model, plain))
    assert flags == plains


@pytest.mark.parametrize('name', ['test_resnet', 'test_convnext', 'mobilenetv4_conv_small'])
@pytest.mark.parametrize('options', [{}, {'ratio': 'combined'}], ids=str)
def test_dropout_in_a_head_draws_once(name, options):
    model, states = _model(name, drop_rate=0.5), []
    task = make_task(model, **options)
    mixed, target = task.mixup(*random_images(6, 64))
    task.prepare(mixed)
    for run in (lambda: model(mixed), lambda: task(mixed, target)['output']):
        torch.manual_seed(1)
        output = run()
        states.append(torch.get_rng_state())
        torch.manual_seed(1)
        assert not torch.equal(torch.get_rng_state(), states[-1]) and torch.equal(output, run())
    assert torch.equal(*states)
