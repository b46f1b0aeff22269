"""The criterion against the authors' own numbers, a slow reference, and the extremes."""
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import FORMULAS, random_batch, reference_changes
from timm.loss import BinaryCrossEntropy, JsdCrossEntropy, LabelSmoothingCrossEntropy

from timm_sumix import MixedTarget, ModelOutput, SUMixLoss
from timm_sumix.correction.released import Released
from timm_sumix.loss import uncertainty_term

GOLDEN = np.load(Path(__file__).parent / 'data' / 'released_loss.npz')
INPUTS = ('logits', 'mixed_logits', 'uncertainty_logits', 'mixed_uncertainty_logits')


@pytest.mark.parametrize('case', range(6))
def test_released_ratio_reproduces_the_authors_loss_and_gradients(case):
    prefix = f'case{case}/'
    golden = {key[len(prefix):]: torch.from_numpy(GOLDEN[key]) for key in GOLDEN.files if key.startswith(prefix)}
    inputs = {name: golden[name].requires_grad_() for name in INPUTS if name in golden}
    size, num_classes = inputs['logits'].shape
    target = MixedTarget(golden['labels'], golden['lam'].float().expand(size), num_classes, index=golden['permutation'])
    result = SUMixLoss(ratio='released', gamma=golden['gamma'].item())(
        ModelOutput(inputs['mixed_logits'], inputs.get('mixed_uncertainty_logits')),
        ModelOutput(inputs['logits'], inputs.get('uncertainty_logits')), target)
    result['loss'].backward()
    torch.testing.assert_close(result['lam'], golden['corrected_lam'], rtol=1e-4, atol=0.)
    torch.testing.assert_close(result['loss'], golden['loss'], rtol=1e-4, atol=0.)
    has_gradient = [name for name in inputs if f'grad_{name}' in golden]
    assert len(has_gradient) >= 2 and all(inputs[name].grad is None for name in inputs if name not in has_gradient)
    for name in has_gradient:
        expected = golden[f'grad_{name}']
        # entries near zero are differences of large ones: a millionth of the largest is rounding
        torch.testing.assert_close(inputs[name].grad, expected, rtol=1e-4, atol=1e-6 * expected.abs().max().item())


@torch.no_grad()
def _reference_uncertainty(mixed, original, target, released):
    def u(output, i):
        return output.logits[i] if output.uncertainty is None else F.normalize(output.uncertainty[i].softmax(0), dim=0)

    total, size = 0., len(target)
    for i, lam in enumerate(target.lam):
        changes = reference_changes(mixed, original, target, i, not released)
        for own, weight, change in zip((i, target.index[i]), (lam, 1 - lam), changes):
            alpha = F.normalize(change.softmax(0), dim=0) * (size if released else 1)
            scores = torch.exp(-(alpha + u(original, own) + u(mixed, i)))
            total = total - weight * scores.log_softmax(0)[target.labels[own]] / size
    return total


@pytest.mark.parametrize('released', [False, True])
@pytest.mark.parametrize('head', [True, False])
@pytest.mark.parametrize('size, num_classes', [(1, 2), (6, 5), (16, 50)])
def test_uncertainty_term_follows_the_formula(size, num_classes, head, released):
    batch = random_batch(size, num_classes, scale=1., head=head, seed=size)
    expected = _reference_uncertainty(*batch, released)
    torch.testing.assert_close(uncertainty_term(*batch, released).detach(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('options', [{}, {'gamma': 0.5}, {'ratio': 'released'}], ids=str)
@pytest.mark.parametrize('is_mixed', [True, False])
def test_a_loss_that_is_divided_in_place_leaves_its_parts_as_they_are(options, is_mixed):
    mixed, original, target = random_batch(8, 5)
    target = target if is_mixed else MixedTarget(target.labels, None, 5)
    result = SUMixLoss(**options)(mixed, original, target)
    before = result['classification'].item(), result['uncertainty'].item()
    result['loss'] /= 4.  # as loops that accumulate gradients do
    assert (result['classification'].item(), result['uncertainty'].item()) == before


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


@pytest.mark.parametrize('kwargs, message', [
    ({'gamma': -0.1}, 'gamma must be 0 or greater, got -0.1'), ({'gamma': float('nan')}, 'gamma must be 0 or greater'),
    ({'base': LabelSmoothingCrossEntropy()}, 'base must take soft targets.*LabelSmoothingCrossEntropy'),
    ({'base': JsdCrossEntropy()}, 'base must take soft targets.*JsdCrossEntropy'),
    *(({'base': BinaryCrossEntropy(), 'ratio': ratio}, 'needs SoftTargetCrossEntropy.*got BinaryCrossEntropy')
      for ratio in ('released', Released()))])
def test_bad_options_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SUMixLoss(**kwargs)


@pytest.mark.parametrize('options, change, message', [  # what a ratio reads is checked in test_ratios.py
    ({'ratio': 'similarity'}, None, "ratio 'similarity' needs the outputs for the unmixed images, got None"),
    ({'ratio': 'area', 'gamma': 0.5}, None, 'gamma 0.5 needs the outputs for the unmixed images, got None'),
    ({}, ('mixed', 'logits', torch.zeros(5, 5)), r'mixed logits must be .* \[6, 5\], got \[5, 5\]'),
    ({}, ('original', 'uncertainty', torch.zeros(6, 4)), r'original uncertainty must be .* \[6, 5\], got \[6, 4\]'),
    ({'ratio': 'area'}, ('mixed', 'logits', None), r'mixed logits must be .* \[6, 5\], got None'),
    ({'ratio': 'area', 'gamma': 0.5}, ('original', 'logits', None), r'original logits must be .* \[6, 5\], got None')])
def test_outputs_that_do_not_fit_are_refused_by_their_names(options, change, message):
    mixed, original, target = random_batch(6, 5)
    outputs = {'mixed': mixed, 'original': original if change else None}
    if change:
        which, part, value = change
        outputs[which] = outputs[which]._replace(**{part: value})
    with pytest.raises(ValueError, match=message):
        SUMixLoss(**options)(*outputs.values(), target)


def test_its_repr_holds_the_settings():
    assert 'ratio=similarity (0, 2, 0), gamma=0.5' in repr(SUMixLoss(gamma=0.5))


def test_a_head_that_overflows_in_a_batch_that_is_not_mixed_leaves_the_loss_finite():
    uncertainty = torch.tensor([[torch.inf, 1.], [-torch.inf, torch.nan]], requires_grad=True)
    target = MixedTarget(torch.tensor([0, 1]), None, 2)
    loss = SUMixLoss(gamma=0.5)(ModelOutput(torch.randn(2, 2), uncertainty), None, target)['loss']
    loss.backward()
    assert loss.isfinite() and torch.equal(uncertainty.grad, torch.zeros(2, 2))
