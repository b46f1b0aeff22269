"""Each ratio against a slow reference that follows the formulas sample by sample."""
import math
import re

import pytest
import torch
from helpers import FORMULAS, random_batch

from timm_sumix import MixedTarget, ModelOutput, Ratio, SUMixOptions
from timm_sumix.correction import create_ratio
from timm_sumix.correction.formula import Formula
from timm_sumix.correction.released import Released


def _softmax(values):
    exps = [math.exp(value - max(values)) for value in values]
    return [exp / sum(exps) for exp in exps]


def _norm(values):
    return math.sqrt(sum(value * value for value in values))


def _change(q, p, remove):
    return [a - (0. if remove == c else b) for c, (a, b) in enumerate(zip(q, p))]


def _cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / (_norm(a) * _norm(b))


def _visible(evidence, shown):
    """Return the share of an image's evidence, on 4 x 4 places, that is shown, by pixels of 8 x 8."""
    cells = [(y, x) for y in range(4) for x in range(4)]
    parts = {(y, x): shown[2 * y:2 * y + 2, 2 * x:2 * x + 2].float().mean().item() for y, x in cells}
    return sum(evidence[cell].item() * parts[cell] for cell in cells) / evidence.sum().item()


def _reference_distances(weights, mixed, original, target, i):
    """Return how far mixed image i is from its first image and from its partner."""
    j = target.index[i].item()
    ya, yb = target.labels[i].item(), target.labels[j].item()
    q, f_mix = _softmax(mixed.logits[i].tolist()), mixed.features[i].tolist()
    mask, area = target.mask[i, 0], target.lam[i].item()
    for own, label, other, shown, part in ((i, ya, yb, mask, area), (j, yb, ya, ~mask, 1 - area)):
        p, f = _softmax(original.logits[own].tolist()), original.features[own].tolist()
        if weights == 'released':
            softmax = _softmax(_change(q, p, other))
            yield len(target) * softmax[label] / _norm(softmax)
            continue
        w, s, k = weights
        visible = _visible(original.evidence[own], shown)
        yield (
            w * (math.log(max(part, 1e-6)) - math.log(max(visible, 1e-6)))
            + s * _norm(_change(q, p, None if ya == yb else other)) - k * _cosine(f_mix, f))


def _reference_lam(weights, mixed, original, target):
    shares = []
    for i, lam in enumerate(target.lam.tolist()):
        a, b = _reference_distances(weights, mixed, original, target, i)
        first, second = lam * math.exp(-a), (1 - lam) * math.exp(-b)
        shares.append(first / (first + second))
    return torch.tensor(shares)


NAMES = {
    'combined': (1., 4., 0.), 'evidence': (1., 0., 1.), 'visible': (0.5, 0., 0.), 'feature': (0., 0., 8.),
    'similarity': (0., 2., 0.), 'area': (0., 0., 0.), 'released': 'released'}


@pytest.mark.parametrize('ratio', [*NAMES, (0.5, 1., 0.), (0.25, 1., 2.), (1., 2., 3.), (0., 1., 2.)])
@pytest.mark.parametrize('size, num_classes', [(1, 2), (7, 2), (9, 10), (32, 100)])
def test_follows_the_formula_and_is_exact_at_0_and_1(ratio, size, num_classes):
    batch = random_batch(size, num_classes, seed=size)
    lam, area = create_ratio(ratio)(*batch), batch[2].lam
    torch.testing.assert_close(lam, _reference_lam(NAMES.get(ratio, ratio), *batch), rtol=1e-4, atol=1e-6)
    assert lam[area == 1].eq(1).all() and lam[area == 0].eq(0).all() and area.eq(area.round()).any()
    assert not lam.requires_grad and lam.dtype == torch.float32 and NAMES.keys() == FORMULAS.keys()


def test_weights_of_zero_are_the_area_to_the_last_bit():
    mixed, original, target = random_batch(32, 10)
    assert torch.equal(create_ratio((0, 0, 0))(mixed, original, target), target.lam)
    assert create_ratio((0, 0, 0)).needs == () and str(create_ratio((0, 0, 0))) == 'area (0, 0, 0)'


@pytest.mark.parametrize('name, strength, weights', [
    ('combined', 5., (1., 5., 0.)), ('evidence', 3., (1., 0., 3.)), ('feature', 1., (0., 0., 1.)),
    ('similarity', 0., (0., 0., 0.))])
def test_a_strength_is_the_weight_of_what_is_compared(name, strength, weights):
    assert create_ratio(name, strength) == Formula(*weights)


@pytest.mark.parametrize('ratio, strength, error, message', [
    ('best', None, ValueError, r"ratio must be one of \['combined', 'evidence', .*'released'\], .* got 'best'"),
    (3, None, ValueError, 'ratio must be one of'),
    (Released, None, TypeError, 'got the class Released: use Released'),
    ((1., 2.), None, ValueError, r'must be three numbers \(w, s, k\), .* got \(1.0, 2.0\)'),
    ((1., 2., -1.), None, ValueError, 'must be three numbers'), (('a', 0., 0.), None, ValueError, 'must be three numb'),
    ((2., 0., 0.), None, ValueError, 'must be three numbers .* w at most 1, got'),
    ((0., float('inf'), 0.), None, ValueError, 'must be three numbers'),
    ('similarity', -1., ValueError, 'strength must be 0 or greater, got -1.0'),
    ('feature', float('inf'), ValueError, 'strength must be 0 or greater'),
    ('similarity', float('nan'), ValueError, 'strength must be 0 or greater'),
    ('similarity', True, TypeError, 'strength must be a number, 0 or greater, got True'),
    ('released', 2., ValueError, "ratio 'released' has no strength"),
    ('area', 2., ValueError, "ratio 'area' has no strength"),
    (lambda *_: None, 2., ValueError, "ratio 'of your own' has no strength"),
])
def test_what_is_no_ratio_or_strength_is_refused(ratio, strength, error, message):
    with pytest.raises(error, match=message):
        SUMixOptions(ratio, strength)


@pytest.mark.parametrize('weights', [(0., -1., 0.), (0., 0., float('nan')), (1.5, 0., 0.), (True, 0., 0.)])
def test_weights_of_the_formula_are_checked_where_it_is_made_by_hand_too(weights):
    with pytest.raises(ValueError, match='must be three numbers .w, s, k., 0 or greater, w at most 1, got'):
        Formula(*weights)


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
      for name in ('similarity', 'combined', 'released') for which in ('mixed', 'unmixed')),
])
def test_outputs_that_lack_what_is_read_or_have_another_shape_are_refused(name, which, change, message):
    mixed, original, target = random_batch(4, 3)
    outputs = {'mixed': mixed, 'unmixed': original}
    outputs[which] = outputs[which]._replace(**change)
    with pytest.raises(ValueError, match=message):
        FORMULAS[name](*outputs.values(), target)


def test_without_outputs_or_a_mask_where_they_are_read_a_ratio_is_refused():
    mixed, original, target = random_batch(4, 3)
    with pytest.raises(ValueError, match="ratio 'similarity' needs the outputs for the unmixed images, got None"):
        create_ratio('similarity')(mixed, None, target)
    bare = MixedTarget(target.labels, target.lam, 3, index=target.index)
    for name in ('evidence', 'combined'):
        with pytest.raises(ValueError, match='the evidence needs the mask that the images were mixed by, got .* None'):
            create_ratio(name)(mixed, original, bare)


@pytest.mark.parametrize('weights, instead', [
    ((1., 4., 0.), (1., 0., 1.)), ((1., 0.5, 0.), (1., 0., 0.125)), ((0.5, 2., 1.), (0.5, 0., 1.5)),
    ((0., 2., 0.), (1., 0., 0.5))])
def test_evidence_and_features_take_the_place_of_predictions_where_logits_are_lacking(weights, instead):
    mixed, original, target = random_batch(16, 10)
    less = original._replace(logits=None)
    assert torch.equal(Formula(*weights)(mixed, less, target), Formula(*instead)(mixed, original, target))
    with pytest.raises(ValueError, match=r'needs ModelOutput.features \[16, D\] for the unmixed images'):
        Formula(*weights)(mixed, less._replace(features=None), target)
    with pytest.raises(ValueError, match=r'needs ModelOutput.logits \[16, C\] for the unmixed images, got None'):
        Formula(*weights)(mixed, less._replace(evidence=None), target)


def test_of_a_single_place_features_are_compared_with_evidence_and_predictions_are_not():
    mixed, original, target = random_batch(16, 10)
    single = original._replace(evidence=torch.ones(16, 1, 1))
    for weights in ((1., 4., 0.), (0.5, 1., 0.)):
        torch.testing.assert_close(Formula(*weights)(mixed, single, target), target.lam, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        create_ratio('evidence', 4.)(mixed, single, target), create_ratio('feature', 4.)(mixed, original, target),
        rtol=0, atol=1e-5)


def test_what_a_ratio_does_not_need_is_not_read():
    mixed, original, target = random_batch(16, 10)
    for name, ratio in FORMULAS.items():
        outputs = [ModelOutput(*(
            value if field in ratio.needs else None for field, value in zip(output._fields, output)))
            for output in (mixed, original)]
        assert torch.equal(ratio(*outputs, target), ratio(mixed, original, target)), name


@pytest.mark.parametrize('options, made, name', [
    ({}, 'none', 'similarity'), ({'original_pass': 'none', 'strength': 2.}, 'none', 'similarity'),
    ({'original_pass': 'no-grad'}, 'no-grad', 'similarity'), ({'gamma': 0.5}, 'none', 'similarity'),
    ({'gamma': 0.5, 'original_pass': 'no-grad'}, 'no-grad', 'similarity'),
    ({'gamma': 0.5, 'original_pass': 'grad'}, 'grad', 'similarity'),
    *(({'ratio': name}, 'none', name) for name in ('combined', 'evidence', 'feature')),
    ({'ratio': (0.5, 0., 0.)}, 'none', 'visible'), ({'ratio': [0, 2, 0]}, 'none', 'similarity'),
    ({'ratio': 'released'}, 'no-grad', 'released'), ({'ratio': 'released', 'gamma': 0.5}, 'grad', 'released'),
    ({'ratio': Released(), 'gamma': 0.5}, 'grad', 'released'), ({'ratio': 'area'}, 'none', 'area'),
    ({'ratio': 'area', 'gamma': 0.5}, 'none', 'area'),
])
def test_the_pass_that_is_made_follows_from_the_options_and_changes_no_formula(options, made, name):
    found = SUMixOptions(**options)
    assert found.resolved_pass == made and found.create_ratio() == FORMULAS[name]
    assert found.unmixes == (made == 'none' and (found.gamma > 0 or name != 'area'))


@pytest.mark.parametrize('options, message', [
    ({'ratio': 'released', 'original_pass': 'none'}, "ratio 'released' is of two passes: use original_pass 'no-grad'"),
    ({'original_pass': 'grad'}, "original_pass 'grad' has no effect with gamma 0.*: use 'no-grad'"),
    ({'ratio': 'area', 'original_pass': 'no-grad'}, "original_pass 'no-grad' has no effect with ratio 'area'"),
    ({'uncertainty': 'logits', 'gamma': 0.5}, "uncertainty 'logits' needs ratio 'released' and gamma above 0"),
    ({'uncertainty': 'logits', 'ratio': 'released'}, "uncertainty 'logits' needs ratio 'released' and gamma above 0"),
    ({'uncertainty': 'none'}, r"uncertainty must be one of \['head', 'logits'\], got 'none'"),
])
def test_options_that_contradict_each_other_or_have_no_effect_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SUMixOptions(**options)


# Ratios of one's own

class _Halfway(Ratio):
    needs = ()

    def shares(self, mixed, original, target):
        return (target.lam + 0.5) / 2


def test_a_ratio_of_ones_own_is_an_object_or_a_function():
    mixed, original, target = random_batch(4, 3)
    for ratio in (_Halfway(), lambda mixed, original, target: (target.lam + 0.5) / 2):
        torch.testing.assert_close(create_ratio(ratio)(mixed, original, target), (target.lam + 0.5) / 2)
        assert SUMixOptions(ratio).resolved_pass == 'none'
    assert not SUMixOptions(_Halfway()).unmixes and SUMixOptions(lambda *_: None).unmixes
    assert SUMixOptions(lambda *_: None, original_pass='no-grad').resolved_pass == 'no-grad'


@pytest.mark.parametrize('shares, message', [
    (torch.zeros(2), r'must return shares of shape \[4\], got \[2\]'),
    (torch.tensor([1.5, *[float('nan')] * 3]), r'must return shares in \[0, 1\], got \[1.5\]'),  # NaN: none, no error
])
def test_shares_of_ones_own_of_another_shape_or_range_are_an_error(monkeypatch, shares, message):
    monkeypatch.setattr(_Halfway, 'shares', lambda *_: shares)
    for ratio in (_Halfway(), lambda *_: shares):
        with pytest.raises(ValueError, match=message):
            create_ratio(ratio)(*random_batch(4, 3))


def test_rounding_at_1_is_no_error():
    batch = random_batch(6, 5)
    assert torch.equal(create_ratio(lambda *_: torch.full((6,), 1. + 1e-7))(*batch), torch.ones(6))
