"""Each ratio against a slow reference that follows the formulas sample by sample."""
import math
import re

import pytest
import torch
from helpers import FORMULAS, random_batch, reference_changes

from timm_sumix import MixedTarget, Ratio, SUMixOptions
from timm_sumix.correction import create_ratio
from timm_sumix.correction.formula import Formula
from timm_sumix.correction.released import Released


@torch.no_grad()
def _reference_lam(weights, mixed, original, target):
    """Follow the formula image by image; evidence is of 4 x 4 places, and masks of 8 x 8 pixels."""
    is_released, shares = weights == 'released', []
    for i, lam in enumerate(target.lam):
        j, area, distances = target.index[i], (lam, 1 - lam), []
        mask = target.mask[i, 0].float().view(4, 2, 4, 2).mean((1, 3))
        for own, shown, part, change in zip(
                (i, j), (mask, 1 - mask), area, reference_changes(mixed, original, target, i, not is_released)):
            if is_released:
                softmax = change.softmax(0)
                distances.append(len(target) * softmax[target.labels[own]] / softmax.norm())
                continue
            w, s, k = weights
            visible = (original.evidence[own] * shown).sum() / original.evidence[own].sum()
            cosine = torch.cosine_similarity(mixed.features[i], original.features[own], dim=0)
            log_odds = part.clamp(min=1e-6).log() - visible.clamp(min=1e-6).log()
            distances.append(w * log_odds + s * change.norm() - k * cosine)
        first, second = (part * math.exp(-distance) for part, distance in zip(area, distances))
        shares.append(first / (first + second))
    return torch.stack(shares)


NAMES = {
    'combined': (1., 4., 0.), 'evidence': (1., 0., 1.), 'visible': (0.5, 0., 0.), 'feature': (0., 0., 8.),
    'similarity': (0., 2., 0.), 'area': (0., 0., 0.), 'released': 'released'}


@pytest.mark.parametrize('ratio', [*NAMES, (0.5, 1., 0.), (1., 2., 3.), (0., 1., 2.)])
@pytest.mark.parametrize('size, num_classes', [(1, 2), (7, 2), (9, 10), (32, 100)])
def test_follows_the_formula_and_is_exact_at_0_and_1(ratio, size, num_classes):
    batch = random_batch(size, num_classes, seed=size)
    lam, area = create_ratio(ratio)(*batch), batch[2].lam
    torch.testing.assert_close(lam, _reference_lam(NAMES.get(ratio, ratio), *batch), rtol=1e-4, atol=1e-6)
    assert lam[area == 1].eq(1).all() and lam[area == 0].eq(0).all() and area.eq(area.round()).any()
    assert not lam.requires_grad and lam.dtype == torch.float32 and NAMES.keys() == FORMULAS.keys()
    assert ratio != 'area' or torch.equal(lam, area)


@pytest.mark.parametrize('ratio, strength, error, message', [
    ('best', None, ValueError, r"ratio must be one of \['combined', 'evidence', .*'released'\], .* got 'best'"),
    (3, None, ValueError, 'ratio must be one of'), (Released, None, TypeError, 'got the class Released: use Released'),
    ((1., 2.), None, ValueError, r'must be three numbers \(w, s, k\), .* got \(1.0, 2.0\)'),
    *((weights, None, ValueError, 'must be three numbers .w, s, k., 0 or greater, w at most 1, got') for weights in (
        (1., 2., -1.), ('a', 0., 0.), (2., 0., 0.), (0., float('inf'), 0.), (0., 0., float('nan')), (True, 0., 0.))),
    ('similarity', -1., ValueError, 'strength must be 0 or greater, got -1.0'),
    ('feature', float('inf'), ValueError, 'strength must be 0 or greater'),
    ('similarity', float('nan'), ValueError, 'strength must be 0 or greater'),
    ('similarity', True, TypeError, 'strength must be a number, 0 or greater, got True'),
    *((ratio, 2., ValueError, f"ratio '{name}' has no strength") for ratio, name in (
        ('released', 'released'), ('area', 'area'), (lambda *_: None, 'of your own')))])
def test_what_is_no_ratio_or_strength_is_refused_as_are_weights_of_a_formula_made_by_hand(
        ratio, strength, error, message):
    with pytest.raises(error, match=message):
        SUMixOptions(ratio, strength)
    if isinstance(ratio, tuple) and len(ratio) == 3:
        with pytest.raises(error, match=message):
            Formula(*ratio)


@pytest.mark.parametrize('name, which, change, message', [
    ('feature', 'unmixed', {'features': None}, "ratio 'feature' needs ModelOutput.features"),
    ('feature', 'mixed', {'features': None}, r'ModelOutput.features \[4, D\] for the mixed images, got None'),
    ('evidence', 'unmixed', {'evidence': None}, "ratio 'evidence' needs ModelOutput.evidence"),
    ('combined', 'unmixed', {'evidence': None}, r'ModelOutput.evidence \[4, h, w\] for the unmixed images, got None'),
    ('similarity', 'unmixed', {'logits': None, 'evidence': None}, r'needs ModelOutput.logits \[4, C\] for the unmixed'),
    *(('evidence', 'unmixed', {field: torch.zeros(shape)},
       f'needs ModelOutput.{field} .* for the unmixed images, got {re.escape(str(shape))}')
      for field, shape in (
          ('features', [4, 5, 1]), ('features', [1, 5]), ('evidence', [1, 2, 2]), ('evidence', [4, 1, 2, 2]))),
    *((name, which, {'logits': torch.randn(4, 2)}, rf"logits \[4, 3\] for the {which} images, .* 'evidence' needs none")
      for name in ('similarity', 'combined', 'released') for which in ('mixed', 'unmixed'))])
def test_outputs_that_lack_what_is_read_or_have_another_shape_are_refused(name, which, change, message):
    mixed, original, target = random_batch(4, 3)
    outputs = {'mixed': mixed, 'unmixed': original}
    outputs[which] = outputs[which]._replace(**change)
    with pytest.raises(ValueError, match=message):
        FORMULAS[name](*outputs.values(), target)


def test_without_a_mask_where_it_is_read_a_ratio_is_refused():
    mixed, original, target = random_batch(4, 3)
    with pytest.raises(ValueError, match='the evidence needs the mask that the images were mixed by, got .* None'):
        create_ratio('combined')(mixed, original, MixedTarget(target.labels, target.lam, 3, index=target.index))


def test_of_a_single_place_features_are_compared_with_evidence_and_predictions_are_not():
    mixed, original, target = random_batch(16, 10)
    single = original._replace(evidence=torch.ones(16, 1, 1))
    for ratio, expected in (((1., 4., 0.), 'area'), ((0.5, 1., 0.), 'area'), ((1., 0., 8.), 'feature')):
        shares = create_ratio(ratio)(mixed, single, target), create_ratio(expected)(mixed, original, target)
        torch.testing.assert_close(*shares, rtol=0, atol=1e-5)


@pytest.mark.parametrize('options, made, ratio', [
    ({}, 'none', 'similarity'), ({'original_pass': 'none', 'strength': 3.}, 'none', (0., 3., 0.)),
    ({'original_pass': 'no-grad'}, 'no-grad', 'similarity'), ({'gamma': 0.5}, 'none', 'similarity'),
    ({'gamma': 0.5, 'original_pass': 'no-grad'}, 'no-grad', 'similarity'),
    ({'gamma': 0.5, 'original_pass': 'grad'}, 'grad', 'similarity'), ({'strength': 0.}, 'none', 'area'),
    ({'ratio': 'combined', 'strength': 5.}, 'none', (1., 5., 0.)),
    ({'ratio': 'evidence', 'strength': 3.}, 'none', (1., 0., 3.)),
    ({'ratio': 'feature', 'strength': 1.}, 'none', (0., 0., 1.)),
    ({'ratio': (0.5, 0., 0.)}, 'none', 'visible'), ({'ratio': [0, 2, 0]}, 'none', 'similarity'),
    ({'ratio': 'released'}, 'no-grad', 'released'), ({'ratio': 'released', 'gamma': 0.5}, 'grad', 'released'),
    ({'ratio': Released(), 'gamma': 0.5}, 'grad', 'released'), ({'ratio': 'area'}, 'none', 'area'),
    ({'ratio': 'area', 'gamma': 0.5}, 'none', 'area'), ({'ratio': (0, 0, 0)}, 'none', 'area')])
def test_ratio_and_pass_follow_from_the_options_and_the_pass_changes_no_formula(options, made, ratio):
    found, expected = SUMixOptions(**options), FORMULAS[ratio] if isinstance(ratio, str) else Formula(*ratio)
    assert found.resolved_pass == made and found.create_ratio() == expected
    assert found.unmixes == (made == 'none' and (found.gamma > 0 or ratio != 'area'))


@pytest.mark.parametrize('options, message', [
    ({'ratio': 'released', 'original_pass': 'none'}, "ratio 'released' is of two passes: use original_pass 'no-grad'"),
    ({'original_pass': 'grad'}, "original_pass 'grad' has no effect with gamma 0.*: use 'no-grad'"),
    ({'ratio': 'area', 'original_pass': 'no-grad'}, "original_pass 'no-grad' has no effect with ratio 'area'"),
    ({'uncertainty': 'logits', 'gamma': 0.5}, "uncertainty 'logits' needs ratio 'released' and gamma above 0"),
    ({'uncertainty': 'logits', 'ratio': 'released'}, "uncertainty 'logits' needs ratio 'released' and gamma above 0"),
    ({'uncertainty': 'none'}, r"uncertainty must be one of \['head', 'logits'\], got 'none'")])
def test_options_that_contradict_each_other_or_have_no_effect_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SUMixOptions(**options)


class _Halfway(Ratio):
    needs = ()

    def __init__(self, shares=None):
        self.shares = shares or (lambda mixed, original, target: (target.lam + 0.5) / 2)


def test_a_ratio_of_ones_own_is_an_object_or_a_function():
    mixed, original, target = random_batch(4, 3)
    for ratio in (_Halfway(), _Halfway().shares):
        torch.testing.assert_close(create_ratio(ratio)(mixed, original, target), (target.lam + 0.5) / 2)
        assert SUMixOptions(ratio).resolved_pass == 'none'
    assert not SUMixOptions(_Halfway()).unmixes and SUMixOptions(lambda *_: None).unmixes
    assert SUMixOptions(lambda *_: None, original_pass='no-grad').resolved_pass == 'no-grad'


@pytest.mark.parametrize('shares, message', [
    (torch.zeros(2), r'must return shares of shape \[4\], got \[2\]'),
    (torch.tensor([1.5, *[float('nan')] * 3]), r'must return shares in \[0, 1\], got \[1.5\]'),  # NaN: none, no error
])
def test_shares_of_ones_own_of_another_shape_or_range_are_an_error_but_rounding_at_1_is_none(shares, message):
    batch = random_batch(4, 3)
    for ratio in (_Halfway(lambda *_: shares), lambda *_: shares):
        with pytest.raises(ValueError, match=message):
            create_ratio(ratio)(*batch)
    assert torch.equal(create_ratio(lambda *_: torch.full((4,), 1. + 1e-7))(*batch), torch.ones(4))
