"""Each ratio against a slow reference that follows the formulas sample by sample."""
import math

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
    if name == 'released':
        distances = []
        for change, label in ((_change(q, p, yb), ya), (_change(q, p2, ya), yb)):
            softmax = _softmax(change)
            distances.append(len(target) * softmax[label] / _norm(softmax))
        return distances
    return [0., 0.]


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


@pytest.mark.parametrize('name', ['similarity', 'feature'])
def test_a_sample_has_the_same_share_whatever_batch_it_stands_in(name):
    mixed, original, target = random_batch(16, 10)
    whole = corrected_lam(mixed, original, target, name)
    for i, j in enumerate(target.index.tolist()):
        rows = torch.tensor([i, j])
        alone = MixedTarget(target.labels[rows], target.lam[rows], 10, index=torch.tensor([1, 0]))
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
    ('best', None, r"ratio must be one of \['similarity', 'feature', 'released', 'area'\], got 'best'"),
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
