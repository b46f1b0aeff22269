"""Each ratio against a slow reference that follows the formulas sample by sample."""
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import FORMULAS, random_batch

from benchmarks.fidelity.predictions import read_predictions
from timm_sumix import MixedTarget, ModelOutput, Ratio, SUMixOptions
from timm_sumix.correction import create_ratio
from timm_sumix.correction.formula import Formula
from timm_sumix.correction.released import Released
from timm_sumix.region import Mixing

DATA = Path(__file__).parent / 'data'


def _softmax(values):
    exps = [math.exp(value - max(values)) for value in values]
    return [exp / sum(exps) for exp in exps]


def _norm(values):
    return math.sqrt(sum(value * value for value in values))


def _change(q, p, remove):
    return [a - (0. if remove == c else b) for c, (a, b) in enumerate(zip(q, p))]


def _cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / (_norm(a) * _norm(b))


def _reference_distances(name, mixed, original, target, i):
    j = target.index[i].item()
    ya, yb = target.labels[i].item(), target.labels[j].item()
    q, p, p2 = (_softmax(logits.tolist()) for logits in (mixed.logits[i], original.logits[i], original.logits[j]))
    if name == 'similarity':
        same = ya == yb
        return [2. * _norm(_change(q, p, None if same else yb)), 2. * _norm(_change(q, p2, None if same else ya))]
    if name == 'feature':
        f_mix, f, f2 = (f.tolist() for f in (mixed.features[i], original.features[i], original.features[j]))
        return [-8. * _cosine(f_mix, f), -8. * _cosine(f_mix, f2)]
    if name in ('evidence', 'combined', 'visible'):
        other, weight = {
            'evidence': ('feature', 1 / 8), 'combined': ('similarity', 4 / 2), 'visible': ('area', 0.)}[name]
        weighted = [weight * distance for distance in _reference_distances(other, mixed, original, target, i)]
        part_of_evidence = 0.5 if name == 'visible' else 1.
        visible = _reference_visible(original.evidence[i], target.mask[i, 0]), _reference_visible(
            original.evidence[j], ~target.mask[i, 0])
        areas = target.lam[i].item(), 1 - target.lam[i].item()
        return [
            part_of_evidence * (math.log(max(area, 1e-6)) - math.log(max(part, 1e-6))) + distance
            for area, part, distance in zip(areas, visible, weighted)]
    if name == 'released':
        distances = []
        for change, label in ((_change(q, p, yb), ya), (_change(q, p2, ya), yb)):
            softmax = _softmax(change)
            distances.append(len(target) * softmax[label] / _norm(softmax))
        return distances
    return [0., 0.]


def _reference_visible(evidence, shown):
    """Return the share of an image's evidence, on 4 x 4 places, that is shown, by pixels of 8 x 8."""
    cells = [(y, x) for y in range(4) for x in range(4)]
    parts = {(y, x): shown[2 * y:2 * y + 2, 2 * x:2 * x + 2].float().mean().item() for y, x in cells}
    return sum(evidence[cell].item() * parts[cell] for cell in cells) / evidence.sum().item()


def _reference_lam(name, mixed, original, target):
    shares = []
    for i, lam in enumerate(target.lam.tolist()):
        a, b = _reference_distances(name, mixed, original, target, i)
        first, second = lam * math.exp(-a), (1 - lam) * math.exp(-b)
        shares.append(first / (first + second))
    return torch.tensor(shares)


@pytest.mark.parametrize('name', list(FORMULAS))
@pytest.mark.parametrize('size, num_classes', [(1, 2), (7, 2), (9, 10), (32, 100)])
def test_follows_the_formula(name, size, num_classes):
    batch = random_batch(size, num_classes, seed=size)
    torch.testing.assert_close(FORMULAS[name](*batch), _reference_lam(name, *batch), rtol=1e-4, atol=1e-6)


def test_names_give_the_shares_that_they_gave_before_they_were_one_formula():
    saved, batches = np.load(DATA / 'shares.npz'), read_predictions(DATA / 'predictions.npz')
    for key in saved:
        name, _, lacking = key.partition(', ')
        name, _, strength = name.partition(' ')
        ratio = create_ratio(name, float(strength) if strength else None)
        passes = [
            torch.cat([ratio(batch.mixed, getattr(batch, made)._replace(**({'logits': None} if lacking else {})),
                             batch.target) for batch in batches]) for made in ('unmixed', 'original')]
        torch.testing.assert_close(
            passes[0] if lacking else torch.stack(passes), torch.from_numpy(saved[key]), rtol=0, atol=1e-6)
    assert len(saved.files) == 14


def test_weights_of_zero_are_the_area_to_the_last_bit():
    mixed, original, target = random_batch(32, 10)
    assert torch.equal(create_ratio((0, 0, 0))(mixed, original, target), target.lam)
    assert create_ratio((0, 0, 0)).needs == () and str(create_ratio((0, 0, 0))) == 'area (0, 0, 0)'


@pytest.mark.parametrize('weights', [(0.5, 0., 0.), (0.5, 1., 0.), (0.25, 1., 2.), (1., 2., 3.), (0., 1., 2.)])
def test_weights_add_in_log_odds(weights):
    mixed, original, target = random_batch(16, 10)

    def log_odds(name, strength=None):
        return torch.logit(create_ratio(name, strength)(mixed, original, target))

    area, (w, s, k) = log_odds('area'), weights
    expected = (
        area + 2 * w * (log_odds('visible') - area) + s * (log_odds('similarity', 1.) - area)
        + k * (log_odds('feature', 1.) - area))
    inner = (target.lam > 0) & (target.lam < 1)
    found = torch.logit(Formula(*weights)(mixed, original, target))
    torch.testing.assert_close(found[inner], expected[inner], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('ratio, error, message', [
    ((1., 2.), ValueError, r'must be three numbers \(w, s, k\), .* got \(1.0, 2.0\)'),
    ((1., 2., -1.), ValueError, r'must be three numbers'), ((2., 0., 0.), ValueError, r'w of the evidence must be in'),
    (('a', 0., 0.), ValueError, 'must be three numbers'), (Released, TypeError, 'got the class Released: use Released'),
    (3, ValueError, 'ratio must be one of')])
def test_what_is_no_ratio_is_refused(ratio, error, message):
    with pytest.raises(error, match=message):
        SUMixOptions(ratio)


@pytest.mark.parametrize('name', list(FORMULAS))
def test_shares_of_nothing_and_all_stay_exact_and_carry_no_gradient(name):
    mixed, original, target = random_batch(16, 10)
    lam = FORMULAS[name](mixed, original, target)
    assert lam[-1] == 1. and lam[8] == 0. and not lam.requires_grad and lam.dtype == torch.float32


@pytest.mark.parametrize('name', ['similarity', 'feature', 'evidence', 'combined', 'visible'])
def test_a_sample_has_the_same_share_whatever_batch_it_stands_in(name):
    mixed, original, target = random_batch(16, 10)
    whole = FORMULAS[name](mixed, original, target)
    for i, j in enumerate(target.index.tolist()):
        rows = torch.tensor([i, j])
        alone = MixedTarget(
            target.labels[rows], target.lam[rows], 10, index=torch.tensor([1, 0]), mask=target.mask[rows])
        parts = (
            ModelOutput(*(None if part is None else part[rows] for part in output)) for output in (mixed, original))
        torch.testing.assert_close(FORMULAS[name](*parts, alone)[0], whole[i])


@pytest.mark.parametrize('name', ['similarity', 'feature'])
def test_an_image_that_is_recognised_keeps_more_of_its_label(name):
    _, original, target = random_batch(16, 10, scale=5.)
    inner = (target.lam > 0) & (target.lam < 1) & (target.labels != target.partner_labels)
    lam = FORMULAS[name](original, original, target)  # the mixtures look just like the first images
    assert (lam[inner] > target.lam[inner]).all()


def test_strength_zero_leaves_the_area_alone():
    batch = random_batch(16, 10)
    torch.testing.assert_close(create_ratio('similarity', 0.)(*batch), batch[2].lam)


@pytest.mark.parametrize('ratio, strength, message', [
    ('best', None, (
        r"ratio must be one of \['combined', 'evidence', .*'released'\], got 'best'")),
    ('similarity', -1., 'strength must be 0 or greater, got -1.0'),
    ('feature', float('inf'), 'strength must be 0 or greater'),
    ('similarity', float('nan'), 'strength must be 0 or greater'),
    ('released', 2., "ratio 'released' has no strength"),
    ('area', 2., "ratio 'area' has no strength"),
])
def test_bad_options_are_refused(ratio, strength, message):
    with pytest.raises(ValueError, match=message):
        SUMixOptions(ratio, strength)


def test_feature_without_features_is_refused():
    mixed, original, target = random_batch(4, 3)
    with pytest.raises(ValueError, match="ratio 'feature' needs ModelOutput.features"):
        create_ratio('feature')(mixed, ModelOutput(original.logits), target)


def test_evidence_without_its_map_is_refused():
    mixed, original, target = random_batch(4, 3)
    with pytest.raises(ValueError, match="ratio 'evidence' needs ModelOutput.evidence"):
        create_ratio('evidence')(mixed, original._replace(evidence=None), target)


def test_evidence_without_a_mask_is_refused():
    mixed, original, target = random_batch(16, 10)
    bare = MixedTarget(target.labels, target.lam, 10, index=target.index)
    for ratio in (create_ratio('evidence'), create_ratio('combined')):
        with pytest.raises(ValueError, match='the evidence needs the mask that the images were mixed by, got .* None'):
            ratio(mixed, original, bare)


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


def test_of_a_single_place_no_prediction_is_compared_with_evidence():
    mixed, original, target = random_batch(16, 10)
    single = original._replace(evidence=torch.ones(16, 1, 1), features=None)
    for weights in ((1., 4., 0.), (0.5, 1., 0.)):
        torch.testing.assert_close(Formula(*weights)(mixed, single, target), target.lam, atol=1e-6, rtol=1e-5)


def test_what_a_ratio_does_not_need_is_not_read():
    mixed, original, target = random_batch(16, 10)
    for name, ratio in FORMULAS.items():
        outputs = [ModelOutput(*(
            value if field in ratio.needs else None for field, value in zip(output._fields, output)))
            for output in (mixed, original)]
        assert torch.equal(ratio(*outputs, target), ratio(mixed, original, target)), name


def test_evidence_with_a_single_place_does_what_feature_does():
    mixed, original, target = random_batch(16, 10)
    original = original._replace(evidence=torch.ones(16, 1, 1))
    found = create_ratio('evidence', 4.)(mixed, original, target)
    torch.testing.assert_close(found, create_ratio('feature', 4.)(mixed, original, target), rtol=0, atol=1e-5)


@pytest.mark.parametrize('part, shape', [
    ('features', [4, 5, 1]), ('features', [1, 5]), ('evidence', [1, 2, 2]), ('evidence', [4, 1, 2, 2])])
def test_outputs_of_another_shape_are_refused(part, shape):
    mixed, original, target = random_batch(4, 3)
    got = re.escape(str(shape))
    with pytest.raises(ValueError, match=f'needs ModelOutput.{part} .* for the unmixed images, got {got}'):
        create_ratio('evidence')(mixed, original._replace(**{part: torch.zeros(shape)}), target)


@pytest.mark.parametrize('name', ['similarity', 'combined', 'released'])
def test_logits_of_other_classes_than_the_labels_are_refused(name):
    mixed, original, target = random_batch(4, 3)
    for which, both in (
            ('mixed', (mixed._replace(logits=torch.randn(4, 2)), original)),
            ('unmixed', (mixed, original._replace(logits=torch.randn(4, 32))))):
        with pytest.raises(ValueError, match=rf"logits \[4, 3\] for the {which} images, .* 'evidence' needs none"):
            FORMULAS[name](*both, target)


def test_evidence_by_place_follows_what_is_shown_of_it():
    mixed, original, _ = random_batch(2, 3)
    evidence = torch.full((2, 4, 4), 1e-6)
    evidence[0, 0, 0] = evidence[1, 0, 3] = 1.  # first object at the top left, its partner at the top right
    original = original._replace(evidence=evidence)
    mask = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    mask[0, :, :, 4:] = False  # both objects are shown
    mask[1, :, :4, :4] = False  # the second image keeps its own object, and gets its partner's
    target = MixedTarget(torch.tensor([0, 1]), mask.float().mean((1, 2, 3)), 3, mask=mask)
    torch.testing.assert_close(
        create_ratio('evidence', 0.)(mixed, original, target), torch.tensor([0.5, 0.5]), rtol=0, atol=1e-4)
    mask[0, :, :, 4:], mask[0, :, 6:] = True, False  # nothing of the partner's object
    target = MixedTarget(torch.tensor([0, 1]), mask.float().mean((1, 2, 3)), 3, mask=mask)
    assert create_ratio('evidence', 0.)(mixed, original, target)[0] > 0.99 > target.lam[0]


def test_where_the_features_are_alike_everywhere_the_area_stays():
    mixed, original, target = random_batch(16, 10)
    original = original._replace(evidence=torch.full((16, 4, 4), 0.1))
    torch.testing.assert_close(create_ratio('evidence', 0.)(mixed, original, target), target.lam, rtol=0, atol=1e-5)


def test_an_overflow_leaves_the_area_to_its_pairs_alone():
    for name, part in (('evidence', 'evidence'), ('evidence', 'features'), ('similarity', 'logits')):
        mixed, original, target = random_batch(16, 10)
        expected = FORMULAS[name](mixed, original, target)
        values = getattr(original, part).detach().clone()
        values[3].view(-1)[0] = float('inf')
        found = FORMULAS[name](mixed, original._replace(**{part: values}), target)
        hit = (torch.arange(16) == 3) | (target.index == 3)
        assert torch.equal(found[hit], target.lam[hit]) and torch.equal(found[~hit], expected[~hit])


class _Halfway(Ratio):
    needs = ()

    def shares(self, mixed, original, target):
        return (target.lam + 0.5) / 2


class _Cautious(Ratio):
    """A formula of distances, which the base class makes a share of."""
    needs = ('logits',)

    def distances(self, mixed, original, target):
        first = (mixed.logits - original.logits).norm(dim=1)
        return first, (mixed.logits - target.partner(original.logits)).norm(dim=1)


def test_a_ratio_of_ones_own_is_an_object_or_a_function():
    mixed, original, target = random_batch(4, 3)
    for ratio in (_Halfway(), lambda mixed, original, target: (target.lam + 0.5) / 2):
        torch.testing.assert_close(create_ratio(ratio)(mixed, original, target), (target.lam + 0.5) / 2)
    assert not SUMixOptions(_Halfway()).unmixes and SUMixOptions(lambda *_: None).unmixes
    for ratio in (_Halfway(), lambda *_: None):
        assert SUMixOptions(ratio).resolved_pass == 'none'
    assert SUMixOptions(lambda *_: None, original_pass='no-grad').resolved_pass == 'no-grad'
    with pytest.raises(ValueError, match=r"must return shares of shape \[4\], got \[2\]"):
        create_ratio(lambda *_: torch.zeros(2))(mixed, original, target)
    with pytest.raises(ValueError, match=r"must return shares in \[0, 1\], got"):
        create_ratio(lambda *_: torch.full((4,), 1.5))(mixed, original, target)
    with pytest.raises(ValueError, match="ratio 'of your own' has no strength"):
        SUMixOptions(_Halfway(), strength=2.)


def test_distances_of_ones_own_become_shares_by_the_common_formula():
    mixed, original, target = random_batch(16, 3)
    first, second = _Cautious().distances(mixed, original, target)
    weights = target.lam * (-first).exp(), (1 - target.lam) * (-second).exp()
    torch.testing.assert_close(_Cautious()(mixed, original, target), (weights[0] / sum(weights)).detach())
    with pytest.raises(ValueError, match="ratio '_cautious' needs the outputs for the unmixed images, got None"):
        _Cautious()(mixed, None, target)


@pytest.mark.parametrize('options, made, name', [
    ({}, 'none', 'similarity'), ({'original_pass': 'none'}, 'none', 'similarity'),
    ({'strength': 2.}, 'none', 'similarity'),
    ({'original_pass': 'no-grad'}, 'no-grad', 'similarity'), ({'gamma': 0.5}, 'none', 'similarity'),
    ({'gamma': 0.5, 'original_pass': 'no-grad'}, 'no-grad', 'similarity'),
    ({'gamma': 0.5, 'original_pass': 'grad'}, 'grad', 'similarity'),
    ({'ratio': 'combined'}, 'none', 'combined'),
    ({'ratio': 'evidence'}, 'none', 'evidence'), ({'ratio': 'feature'}, 'none', 'feature'),
    ({'ratio': (0.5, 0., 0.)}, 'none', 'visible'), ({'ratio': [0, 2, 0]}, 'none', 'similarity'),
    ({'ratio': 'similarity', 'gamma': 0.5}, 'none', 'similarity'),
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


def test_an_option_that_is_gone_is_unknown():
    for name in ('original_scale', 'fade', 'clean'):
        with pytest.raises(TypeError, match=name):
            SUMixOptions(**{name: 0.5})


@pytest.mark.parametrize('weights', [(1., 0., 5.), (1., 5., 0.), (1., 2., 3.)])
def test_where_the_partner_is_shown_whole_nothing_is_compared(weights):
    mixed, original, target = random_batch(16, 10)
    mixing = Mixing(16, target.mask, (1 - target.lam).view(-1, 1, 1, 1), target.index)
    whole = MixedTarget(target.labels, target.lam, 10, index=target.index, mask=mixing)
    inner = (target.lam > 0) & (target.lam < 1)
    places = original.evidence / original.evidence.sum((1, 2), keepdim=True)
    visible = (places * whole.visible_fraction((4, 4))[0]).sum((1, 2))
    found = Formula(*weights)(mixed, original, whole)
    torch.testing.assert_close(found[inner], (visible / (visible + 1 - target.lam))[inner].detach())
    assert torch.equal(found, Formula(1., 0., 0.)(mixed, original, whole))
    apart = ~torch.isclose(Formula(*weights)(mixed, original, target), Formula(1., 0., 0.)(mixed, original, target))
    assert apart[inner].float().mean() > 0.8  # some are their own partners


def test_shares_that_are_known_are_corrected_by_no_ratio():
    mixed, original, target = random_batch(16, 10)
    exact = torch.arange(16) % 2 == 0
    told = MixedTarget(
        target.labels, target.lam, 10, index=target.index,
        mask=Mixing(16, target.mask, index=target.index, exact=exact))
    for name, ratio in FORMULAS.items():
        lam, free = ratio(mixed, original, told), ratio(mixed, original, target)
        assert torch.equal(lam[exact], target.lam[exact]) and torch.equal(lam[~exact], free[~exact]), name


@pytest.mark.parametrize('own', ['class', 'function'])
def test_shares_of_ones_own_outside_the_range_are_an_error(own):
    class Wild(Ratio):
        needs = ()

        def shares(self, mixed, original, target):
            return target.lam + torch.tensor([1.5, *[float('nan')] * (len(target) - 1)])  # NaN: none, no error

    mixed, original, target = random_batch(6, 5)
    ratio = create_ratio(Wild() if own == 'class' else lambda *parts: Wild().shares(*parts))
    with pytest.raises(ValueError, match=r'must return shares in \[0, 1\], got \[[12]\.\d+\]'):
        ratio(mixed, original, target)
    rounded = create_ratio(lambda mixed, original, target: torch.full_like(target.lam, 1. + 1e-7))
    assert torch.equal(rounded(mixed, original, target), torch.ones(6))
