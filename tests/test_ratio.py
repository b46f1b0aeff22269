"""Each ratio against a slow reference that follows the formulas sample by sample."""
import math
import re

import pytest
import torch
from helpers import random_batch

from timm_sumix import HeadOutput, MixedTarget
from timm_sumix.ratio import RATIOS, corrected_lam


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
    if name == 'place':
        cosines = [cosine / 8 for cosine in _reference_distances('feature', mixed, original, target, i)]
        visible = _reference_visible(original.strength[i], target.mask[i, 0]), _reference_visible(
            original.strength[j], ~target.mask[i, 0])
        areas = target.lam[i].item(), 1 - target.lam[i].item()
        return [
            math.log(max(area, 1e-6)) - math.log(max(part, 1e-6)) + cosine
            for area, part, cosine in zip(areas, visible, cosines)]
    if name == 'released':
        distances = []
        for change, label in ((_change(q, p, yb), ya), (_change(q, p2, ya), yb)):
            softmax = _softmax(change)
            distances.append(len(target) * softmax[label] / _norm(softmax))
        return distances
    return [0., 0.]


def _reference_visible(strength, shown):
    """Return the share of an image's evidence, on 4 x 4 places, that is shown, by pixels of 8 x 8."""
    cells = [(y, x) for y in range(4) for x in range(4)]
    evidence = {cell: max(strength[cell].item() / strength.max().item(), 1e-6) ** 3 for cell in cells}
    parts = {(y, x): shown[2 * y:2 * y + 2, 2 * x:2 * x + 2].float().mean().item() for y, x in cells}
    return sum(evidence[cell] * parts[cell] for cell in cells) / sum(evidence.values())


def _reference_lam(name, mixed, original, target):
    shares = []
    for i, lam in enumerate(target.lam.tolist()):
        a, b = _reference_distances(name, mixed, original, target, i)
        first, second = lam * math.exp(-a), (1 - lam) * math.exp(-b)
        shares.append(first / (first + second))
    return torch.tensor(shares)


@pytest.mark.parametrize('name', list(RATIOS))
@pytest.mark.parametrize('size, num_classes', [(1, 2), (7, 2), (9, 10), (32, 100)])
def test_follows_the_formula(name, size, num_classes):
    batch = random_batch(size, num_classes, seed=size)
    torch.testing.assert_close(corrected_lam(*batch, name), _reference_lam(name, *batch), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', list(RATIOS))
def test_shares_of_nothing_and_all_stay_exact_and_carry_no_gradient(name):
    mixed, original, target = random_batch(16, 10)
    lam = corrected_lam(mixed, original, target, name)
    assert lam[-1] == 1. and lam[8] == 0. and not lam.requires_grad and lam.dtype == torch.float32


@pytest.mark.parametrize('name', ['similarity', 'feature', 'place'])
def test_a_sample_has_the_same_share_whatever_batch_it_stands_in(name):
    mixed, original, target = random_batch(16, 10)
    whole = corrected_lam(mixed, original, target, name)
    for i, j in enumerate(target.index.tolist()):
        rows = torch.tensor([i, j])
        alone = MixedTarget(
            target.labels[rows], target.lam[rows], 10, index=torch.tensor([1, 0]), mask=target.mask[rows])
        parts = (HeadOutput(*(part[rows] for part in output)) for output in (mixed, original))
        torch.testing.assert_close(corrected_lam(*parts, alone, name)[0], whole[i])


@pytest.mark.parametrize('name', ['similarity', 'feature'])
def test_an_image_that_is_recognised_keeps_more_of_its_label(name):
    _, original, target = random_batch(16, 10, scale=5.)
    inner = (target.lam > 0) & (target.lam < 1) & (target.labels != target.partner_labels)
    lam = corrected_lam(original, original, target, name)  # the mixtures look just like the first images
    assert (lam[inner] > target.lam[inner]).all()


def test_temperature_zero_leaves_the_area_alone():
    batch = random_batch(16, 10)
    torch.testing.assert_close(corrected_lam(*batch, 'similarity', 0.), batch[2].lam)


@pytest.mark.parametrize('name, temperature, message', [
    ('best', None, r"ratio must be one of \['similarity', 'feature', 'place', 'released', 'area'\], got 'best'"),
    ('similarity', -1., 'temperature must be 0 or greater, got -1.0'),
    ('feature', float('inf'), 'temperature must be 0 or greater'),
    ('similarity', float('nan'), 'temperature must be 0 or greater'),
    ('released', 2., "ratio 'released' has no temperature"),
    ('area', 2., "ratio 'area' has no temperature"),
])
def test_bad_options_are_refused(name, temperature, message):
    with pytest.raises(ValueError, match=message):
        corrected_lam(*random_batch(4, 3), name, temperature)


def test_feature_without_features_is_refused():
    mixed, original, target = random_batch(4, 3)
    with pytest.raises(ValueError, match="ratio 'feature' needs HeadOutput.features"):
        corrected_lam(mixed, HeadOutput(original.logits), target, 'feature')


def test_place_without_strength_is_refused():
    mixed, original, target = random_batch(4, 3)
    with pytest.raises(ValueError, match="ratio 'place' needs HeadOutput.strength"):
        corrected_lam(mixed, original._replace(strength=None), target, 'place')


def test_place_without_a_mask_warns_and_does_what_feature_does():
    mixed, original, target = random_batch(16, 10)
    bare = MixedTarget(target.labels, target.lam, 10, index=target.index)
    with pytest.warns(UserWarning, match='without the mask'):
        found = corrected_lam(mixed, original, bare, 'place', 4.)
    torch.testing.assert_close(found, corrected_lam(mixed, original, bare, 'feature', 4.), rtol=0, atol=1e-5)


def test_place_with_a_single_place_warns_and_does_what_feature_does():
    mixed, original, target = random_batch(16, 10)
    original = original._replace(strength=torch.zeros(16, 1, 1))
    with pytest.warns(UserWarning, match='a single place') as warned:
        found = corrected_lam(mixed, original, target, 'place', 4.)
    assert warned[0].filename == __file__
    torch.testing.assert_close(found, corrected_lam(mixed, original, target, 'feature', 4.), rtol=0, atol=1e-5)


@pytest.mark.parametrize('part, shape', [
    ('features', (4, 5, 1)), ('features', (1, 5)), ('strength', (1, 2, 2)), ('strength', (4, 1, 2, 2))])
def test_outputs_of_another_shape_are_refused(part, shape):
    mixed, original, target = random_batch(4, 3)
    with pytest.raises(ValueError, match=f'needs HeadOutput.{part} .* got .*{re.escape(str(shape))}'):
        corrected_lam(mixed, original._replace(**{part: torch.zeros(shape)}), target, 'place')


def test_evidence_by_place_follows_what_is_shown_of_it():
    mixed, original, _ = random_batch(2, 3)
    strength = torch.full((2, 4, 4), 1e-3)
    strength[0, 0, 0] = strength[1, 0, 3] = 1.  # first object at the top left, its partner at the top right
    original = original._replace(strength=strength)
    mask = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    mask[0, :, :, 4:] = False  # both objects are shown
    mask[1, :, :4, :4] = False  # the second image keeps its own object, and gets its partner's
    target = MixedTarget(torch.tensor([0, 1]), mask.float().mean((1, 2, 3)), 3, mask=mask)
    torch.testing.assert_close(
        corrected_lam(mixed, original, target, 'place', 0.), torch.tensor([0.5, 0.5]), rtol=0, atol=1e-4)
    mask[0, :, :, 4:], mask[0, :, 6:] = True, False  # nothing of the partner's object
    target = MixedTarget(torch.tensor([0, 1]), mask.float().mean((1, 2, 3)), 3, mask=mask)
    assert corrected_lam(mixed, original, target, 'place', 0.)[0] > 0.99 > target.lam[0]


def test_where_the_features_are_alike_everywhere_the_area_stays():
    mixed, original, target = random_batch(16, 10)
    original = original._replace(strength=torch.zeros(16, 4, 4))
    torch.testing.assert_close(corrected_lam(mixed, original, target, 'place', 0.), target.lam, rtol=0, atol=1e-5)
