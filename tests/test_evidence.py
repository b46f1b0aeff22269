"""Strength of features by place, for every layout in which timm's models return them."""
import pytest
import timm
import torch

from timm_sumix import SUMixMixup, SUMixTask
from timm_sumix.correction import evidence_map


class _Model:
    num_features = 5
    num_prefix_tokens = 1


def _reference(places):
    """Return the strength at each place of one image [P, D], by sorting each channel."""
    common = [sorted(channel)[(len(channel) + 3) // 4 - 1] for channel in places.T.tolist()]
    return (places - torch.tensor(common)).square().sum(1).sqrt()


def test_every_layout_gives_the_same_distances_from_the_lower_quartile():
    maps = torch.randn(3, 5, 4, 6)
    expected = torch.stack([_reference(image.flatten(1).T).view(4, 6) for image in maps])
    tokens = torch.cat([torch.randn(3, 1, 5), maps.flatten(2).transpose(1, 2)], dim=1)
    for layout in (maps, maps.permute(0, 2, 3, 1), tokens):
        torch.testing.assert_close(evidence_map(_Model(), layout, (64, 96)), expected)


def test_a_class_token_that_the_model_does_not_tell_of_is_found_where_the_others_form_a_grid():
    tokens = torch.randn(2, 17, 5)
    model = torch.nn.Identity()
    torch.testing.assert_close(
        evidence_map(model, tokens, (64, 64)), evidence_map(_Model(), tokens, (64, 64)))
    assert evidence_map(model, tokens[:, 1:], (64, 64)).shape == (2, 4, 4)


@pytest.mark.parametrize('maps', [torch.zeros(3, 5), torch.zeros(3, 12, 5), [torch.zeros(3, 5, 4, 4)]])
def test_what_has_no_place_is_refused(maps):
    with pytest.raises(TypeError, match="ratio 'evidence' needs forward_features to return maps"):
        evidence_map(_Model(), maps, (64, 96))


@pytest.mark.parametrize('name, kwargs', [
    ('test_resnet', {}), ('test_byobnet', {}), ('test_efficientnet', {}), ('test_convnext', {}),
    ('test_vit', {'img_size': 64}), ('mixer_s32_224', {'img_size': 64}),
    ('swin_tiny_patch4_window7_224', {'img_size': 64, 'embed_dim': 24, 'depths': (1, 1, 1, 1), 'window_size': 2}),
])
def test_models_of_every_kind_train_with_it(name, kwargs):
    model = timm.create_model(name, num_classes=10, **kwargs)
    task = SUMixTask(model, SUMixMixup(0., 1., mode='elem', num_classes=10), ratio='evidence', verbose=False)
    result = task(torch.randn(4, 3, 64, 64), torch.arange(4))
    result['loss'].backward()
    assert ((result['lam'] >= 0) & (result['lam'] <= 1)).all() and result['loss'].isfinite()


def test_a_class_and_a_distillation_token_are_not_taken_for_places():
    with pytest.raises(TypeError, match="use ratio 'feature'"):
        evidence_map(torch.nn.Identity(), torch.zeros(3, 2, 5), (64, 64))


def test_maps_of_a_model_that_does_not_tell_its_features_have_channels_first():
    assert evidence_map(torch.nn.Identity(), torch.randn(3, 5, 4, 6), (64, 96)).shape == (3, 4, 6)
