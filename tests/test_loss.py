"""The criterion against the authors' own numbers, a slow reference, and the extremes."""
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import FORMULAS, random_batch
from timm.loss import BinaryCrossEntropy, JsdCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch.nn.functional import log_softmax, softmax

from timm_sumix import MixedTarget, ModelOutput, SUMixLoss
from timm_sumix.correction import visible_evidence
from timm_sumix.loss import uncertainty_term

GOLDEN = np.load(Path(__file__).parent / 'data' / 'released_loss.npz')
INPUTS = ('logits', 'mixed_logits', 'uncertainty_logits', 'mixed_uncertainty_logits')


def _golden(case):
    prefix = f'case{case}/'
    return {key[len(prefix):]: torch.from_numpy(GOLDEN[key]) for key in GOLDEN.files if key.startswith(prefix)}


@pytest.mark.parametrize('case', range(6))
def test_released_ratio_reproduces_the_authors_loss_and_gradients(case):
    golden = _golden(case)
    inputs = {name: golden[name].requires_grad_() for name in INPUTS if name in golden}
    size, num_classes = inputs['logits'].shape
    target = MixedTarget(
        golden['labels'], golden['lam'].float().expand(size), num_classes, index=golden['permutation'])
    result = SUMixLoss(ratio='released', gamma=golden['gamma'].item())(
        ModelOutput(inputs['mixed_logits'], inputs.get('mixed_uncertainty_logits')),
        ModelOutput(inputs['logits'], inputs.get('uncertainty_logits')),
        target)
    result['loss'].backward()
    torch.testing.assert_close(result['lam'], golden['corrected_lam'], rtol=1e-4, atol=0.)
    torch.testing.assert_close(result['loss'], golden['loss'], rtol=1e-4, atol=0.)
    checked = 0
    for name, value in inputs.items():
        expected = golden.get(f'grad_{name}')
        if expected is None:
            assert value.grad is None
            continue
        # entries near zero are differences of large ones: a millionth of the largest is rounding
        atol = 1e-6 * expected.abs().max().item()
        torch.testing.assert_close(value.grad, expected, rtol=1e-4, atol=atol)
        checked += 1
    assert checked >= 2


def _reference_uncertainty(mixed, original, target, released):
    total, size = 0., len(target)

    def unit(values):
        return values / values.norm()

    def u(output, i):
        return output.logits[i] if output.uncertainty is None else unit(softmax(output.uncertainty[i], 0))

    for i in range(size):
        j = target.index[i].item()
        ya, yb = target.labels[i].item(), target.labels[j].item()
        q = softmax(mixed.logits[i], 0)
        for k, remove, label, weight in ((i, yb, ya, target.lam[i]), (j, ya, yb, 1 - target.lam[i])):
            p = softmax(original.logits[k], 0).clone()
            if released or ya != yb:
                p[remove] = 0.
            alpha = unit(softmax(q - p, 0)) * (size if released else 1)
            scores = torch.exp(-(alpha + u(original, k) + u(mixed, i)))
            total = total - weight * log_softmax(scores, 0)[label] / size
    return total


@pytest.mark.parametrize('released', [False, True])
@pytest.mark.parametrize('head', [True, False])
@pytest.mark.parametrize('size, num_classes', [(1, 2), (6, 5), (16, 50)])
def test_uncertainty_term_follows_the_formula(size, num_classes, head, released):
    mixed, original, target = random_batch(size, num_classes, scale=1., head=head, seed=size)
    expected = _reference_uncertainty(
        *(ModelOutput(*(None if part is None else part.detach() for part in output)) for output in (mixed, original)),
        target, released)
    torch.testing.assert_close(
        uncertainty_term(mixed, original, target, released).detach(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', [name for name in FORMULAS if name != 'released'])
def test_classification_weighs_each_sample_by_its_own_corrected_share(name):
    mixed, original, target = random_batch(8, 5)
    result = SUMixLoss(ratio=FORMULAS[name], gamma=0.)(mixed, original, target)
    lam = FORMULAS[name](mixed, original, target)
    expected = 0.
    for i, share in enumerate(lam.tolist()):
        log_p = log_softmax(mixed.logits[i].detach(), 0)
        partner = target.partner_labels[i]
        expected -= (share * log_p[target.labels[i]] + (1 - share) * log_p[partner]).item() / len(lam)
    assert result['classification'].item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(result['lam'], lam)


@pytest.mark.parametrize('name', list(FORMULAS))
@pytest.mark.parametrize('head', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('size, num_classes, scale', [
    (1, 2, 1e4), (2, 1000, 10.), (7, 10, 1e4), (64, 100, 1e3), (1024, 10, 1.), (1024, 1000, 1e4)])
def test_loss_and_gradients_are_finite(size, num_classes, scale, dtype, head, name):
    mixed, original, target = random_batch(size, num_classes, scale, dtype, head, seed=size)
    result = SUMixLoss(ratio=FORMULAS[name], gamma=0.5)(mixed, original, target)
    result['loss'].backward()
    assert torch.isfinite(result['loss']) and result['lam'].isfinite().all()
    assert ((result['lam'] >= 0) & (result['lam'] <= 1)).all()
    gradients = [part.grad for output in (mixed, original) for part in output if part is not None]
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)
    assert mixed.logits.grad is not None and (not head or original.uncertainty.grad is not None)


@pytest.mark.parametrize('base', [None, SoftTargetCrossEntropy(), BinaryCrossEntropy(), torch.nn.CrossEntropyLoss()])
def test_an_unmixed_batch_has_the_base_loss_alone(base):
    mixed, _, target = random_batch(6, 5)
    target = MixedTarget(target.labels, None, 5, 0.1)
    result = SUMixLoss(base)(mixed, None, target)
    result['loss'].backward()
    expected = (base or SoftTargetCrossEntropy())(mixed.logits, target.soft_target())
    torch.testing.assert_close(result['loss'], expected, rtol=1e-6, atol=0.)
    assert result['uncertainty'] == 0
    assert torch.equal(mixed.uncertainty.grad, torch.zeros(6, 5))  # DistributedDataParallel waits for one


def test_area_without_uncertainty_needs_no_originals():
    mixed, _, target = random_batch(6, 5)
    result = SUMixLoss(ratio='area', gamma=0.)(mixed, None, target)
    expected = SoftTargetCrossEntropy()(mixed.logits, target.soft_target())
    torch.testing.assert_close(result['loss'], expected, rtol=1e-6, atol=0.)


@pytest.mark.parametrize('kwargs, message', [
    ({'ratio': 'best'}, 'ratio must be one of'),
    ({'strength': -1.}, 'strength must be 0 or greater, got -1'),
    ({'gamma': -0.1}, 'gamma must be 0 or greater, got -0.1'),
    ({'gamma': float('nan')}, 'gamma must be 0 or greater'),
    ({'base': LabelSmoothingCrossEntropy()}, 'base must take soft targets.*LabelSmoothingCrossEntropy'),
    ({'base': JsdCrossEntropy()}, 'base must take soft targets.*JsdCrossEntropy'),
    ({'base': BinaryCrossEntropy(), 'ratio': 'released'}, 'needs SoftTargetCrossEntropy.*got BinaryCrossEntropy'),
])
def test_bad_options_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SUMixLoss(**kwargs)


def test_outputs_that_do_not_fit_are_refused():
    mixed, original, target = random_batch(6, 5)
    for options, named in (
            ({'ratio': 'similarity'}, "ratio 'similarity' with gamma 0 and clean 0"),
            ({'ratio': 'area', 'gamma': 0.5}, 'gamma 0.5'), ({'ratio': 'area', 'clean': 0.25}, 'clean 0.25')):
        with pytest.raises(ValueError, match=f'{named}.* needs the outputs for the unmixed images, got None'):
            SUMixLoss(**options)(mixed, None, target)
    with pytest.raises(ValueError, match=r'mixed logits must be .* \[6, 5\], got \[5, 5\]'):
        SUMixLoss()(mixed._replace(logits=mixed.logits[:5]), original, target)
    with pytest.raises(ValueError, match=r'original uncertainty must be .* \[6, 5\], got \[6, 4\]'):
        SUMixLoss(ratio='similarity')(mixed, ModelOutput(original.logits, original.uncertainty[:, :4]), target)


@pytest.mark.parametrize('base, rest', [(SoftTargetCrossEntropy(), 0.2), (BinaryCrossEntropy(), 0.)])
@pytest.mark.parametrize('fade', [0.6, 1.])
def test_a_target_fades_by_the_visible_evidence_to_equal_probabilities_or_for_binary_losses_to_none(base, rest, fade):
    torch.manual_seed(0)
    mixed, original, target = random_batch(16, 5)
    original = original._replace(evidence=original.evidence ** 12)  # of few places, that may all be hidden
    mask = (torch.rand(16, 1, 4, 4) < 0.4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    target = MixedTarget(target.labels, mask.float().mean((1, 2, 3)), 5, index=target.index, mask=mask)
    result = SUMixLoss(base, fade=fade)(mixed, original, target)
    rows, weights = [], []
    for i, lam in enumerate(result['lam'].tolist()):
        j, visible = target.index[i].item(), 0.
        for image, shown in ((i, target.mask[i, 0]), (j, ~target.mask[i, 0])):
            evidence = original.evidence[image]
            cells = [(y, x) for y in range(4) for x in range(4)]
            visible += sum(
                evidence[y, x].item() * shown[2 * y:2 * y + 2, 2 * x:2 * x + 2].float().mean().item()
                for y, x in cells) / evidence.sum().item()
        weights.append(min(1., visible / fade))
        row = [rest * (1 - weights[-1])] * 5
        row[target.labels[i]] += weights[-1] * lam
        row[target.labels[j]] += weights[-1] * (1 - lam)
        rows.append(row)
    assert min(weights) < 0.9
    torch.testing.assert_close(result['classification'], base(mixed.logits, torch.tensor(rows)))


def test_what_is_not_finite_does_not_fade():
    mixed, original, target = random_batch(16, 5)
    evidence = original.evidence.clone()
    evidence[3, 0, 0], evidence[4] = float('nan'), float('inf')
    result = SUMixLoss(fade=1.)(mixed, original._replace(evidence=evidence), target)
    assert result['loss'].isfinite() and result['lam'].isfinite().all()
    first, second = visible_evidence(original.evidence, target)
    weight = (first + second).clamp(max=1.).unsqueeze(1)
    hit = torch.isin(torch.arange(16), torch.tensor([3, 4])) | torch.isin(target.index, torch.tensor([3, 4]))
    weight[hit] = 1.
    expected = weight * target.soft_target(result['lam']) + (1 - weight) / 5
    torch.testing.assert_close(result['classification'], SoftTargetCrossEntropy()(mixed.logits, expected))


def test_an_unmixed_batch_does_not_fade():
    mixed, original, target = random_batch(6, 5)
    target = MixedTarget(target.labels, None, 5)
    result = SUMixLoss(fade=1.)(mixed, original, target)
    expected = SoftTargetCrossEntropy()(mixed.logits, target.soft_target())
    torch.testing.assert_close(result['loss'], expected, rtol=1e-6, atol=0.)


@pytest.mark.parametrize('gamma', [0., 0.5])
@pytest.mark.parametrize('ratio', ['evidence', 'similarity', 'area'])
def test_clean_weighs_the_plain_loss_of_the_unmixed_images(ratio, gamma):
    mixed, original, target = random_batch(8, 5)
    target = MixedTarget(target.labels, target.lam, 5, 0.1, index=target.index, mask=target.mask)
    result = SUMixLoss(ratio=ratio, gamma=gamma, clean=0.3)(mixed, original, target)
    lam, expected = FORMULAS[ratio](mixed, original, target), 0.
    for i, share in enumerate(lam.tolist()):
        log_p, log_clean = (log_softmax(output.logits[i].detach(), 0) for output in (mixed, original))
        first, second = (0.9 * log_p[label] + 0.1 * log_p.mean() for label in (
            target.labels[i], target.partner_labels[i]))
        plain = 0.9 * log_clean[target.labels[i]] + 0.1 * log_clean.mean()
        expected -= (0.7 * (share * first + (1 - share) * second) + 0.3 * plain).item() / 8
    assert result['classification'].item() == pytest.approx(expected, rel=1e-5)
    term = uncertainty_term(mixed, original, target).item()
    assert result['loss'].item() == pytest.approx(expected + gamma * term, rel=1e-5)
    result['loss'].backward()
    assert original.logits.grad.abs().max() > 0


def test_without_clean_no_gradient_flows_into_the_unmixed_images_logits():
    mixed, original, target = random_batch(8, 5)
    SUMixLoss()(mixed, original, target)['loss'].backward()
    assert original.logits.grad is None and mixed.logits.grad is not None


def test_its_repr_holds_the_settings():
    assert 'ratio=combined (1, 4, 0), gamma=0.5, clean=0.25, fade=0.6' in repr(
        SUMixLoss(gamma=0.5, clean=0.25, fade=0.6))


def test_a_head_that_overflows_in_a_batch_that_is_not_mixed_leaves_the_loss_finite():
    uncertainty = torch.tensor([[torch.inf, 1.], [-torch.inf, torch.nan]], requires_grad=True)
    target = MixedTarget(torch.tensor([0, 1]), None, 2)
    loss = SUMixLoss(gamma=0.5)(ModelOutput(torch.randn(2, 2), uncertainty), None, target)['loss']
    loss.backward()
    assert loss.isfinite() and torch.equal(uncertainty.grad, torch.zeros(2, 2))
