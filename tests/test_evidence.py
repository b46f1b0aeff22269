"""Features and evidence by place, for every layout in which timm's models return their map."""
import pytest
import timm
import torch

from timm_sumix import SUMixMixup, SUMixTask
from timm_sumix.correction import evidence_map
from timm_sumix.correction.evidence import QUARTILE
from timm_sumix.maps import features_by_place


class _Model:
    num_features = 5
    num_prefix_tokens = 1


def _reference(image):
    """Return the evidence at each place of one image [h, w, D], channel by channel and cell by cell."""
    height, width, channels = image.shape
    background = [
        image[..., c].mean() - QUARTILE * image[..., c].std(correction=0) for c in range(channels)]
    distance = torch.tensor([[
        sum((image[i, j, c] - background[c]) ** 2 for c in range(channels)) ** 0.5
        for j in range(width)] for i in range(height)])
    strength = torch.tensor([[
        sum(distance[k, m] for k in range(i - 1, i + 2) for m in range(j - 1, j + 2)
            if 0 <= k < height and 0 <= m < width) / 9
        for j in range(width)] for i in range(height)])
    return (strength / strength.max()) ** 4


def test_every_layout_gives_the_same_evidence_by_the_formula():
    maps = torch.randn(3, 5, 4, 6, requires_grad=True)
    expected = torch.stack([_reference(image.permute(1, 2, 0)) for image in maps.detach()])
    tokens = torch.cat([torch.randn(3, 1, 5), maps.flatten(2).transpose(1, 2)], dim=1)
    for layout in (maps, maps.permute(0, 2, 3, 1), tokens):
        found = evidence_map(features_by_place(_Model(), layout, (64, 96)))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert not found.requires_grad


def test_a_class_token_that_the_model_does_not_tell_of_is_found_where_the_others_form_a_grid():
    tokens = torch.randn(2, 17, 5)
    model = torch.nn.Identity()
    assert torch.equal(
        features_by_place(model, tokens, (64, 64)), features_by_place(_Model(), tokens, (64, 64)))
    assert features_by_place(model, tokens[:, 1:], (64, 64)).shape == (2, 4, 4, 5)


@pytest.mark.parametrize('model, maps', [
    (_Model(), torch.zeros(3, 5)), (_Model(), torch.zeros(3, 12, 5)), (_Model(), [torch.zeros(3, 5, 4, 4)]),
    (torch.nn.Identity(), torch.zeros(3, 2, 5)),  # tokens of a class and of distillation
    (torch.nn.Identity(), torch.zeros(3, 14, 5))])
def test_what_has_no_place_is_refused(model, maps):
    with pytest.raises(TypeError, match="forward_features must return maps .*use ratio 'similarity'"):
        features_by_place(model, maps, (64, 96))


@pytest.mark.parametrize('name, kwargs', [
    ('test_resnet', {}), ('test_byobnet', {}), ('test_efficientnet', {}), ('test_convnext', {}),
    ('test_vit', {'img_size': 64}), ('mixer_s32_224', {'img_size': 64}),
    ('swin_tiny_patch4_window7_224', {'img_size': 64, 'embed_dim': 24, 'depths': (1, 1, 1, 1), 'window_size': 2}),
])
def test_models_of_every_kind_train_with_it(name, kwargs):
    model = timm.create_model(name, num_classes=10, **kwargs)
    task = SUMixTask(model, SUMixMixup(0., 1., mode='pair', num_classes=10), ratio='evidence', verbose=False)
    mixed, target = task.mixup(torch.randn(4, 3, 64, 64), torch.arange(4))
    result = task(mixed, target)
    result['loss'].backward()
    assert ((result['lam'] >= 0) & (result['lam'] <= 1)).all() and result['loss'].isfinite()
    assert not torch.allclose(result['lam'], target.lam)


def test_maps_of_a_model_that_does_not_tell_its_features_have_channels_first():
    assert features_by_place(torch.nn.Identity(), torch.randn(3, 5, 4, 6), (64, 96)).shape == (3, 4, 6, 5)
