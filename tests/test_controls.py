"""Controls of the comparison: each does what its name says."""
from functools import partial

import pytest
import torch
from helpers import digit_canvases
from scipy.optimize import brentq

from benchmarks.comparison import run
from benchmarks.comparison.run import train_arm
from benchmarks.data.settings import Setting
from benchmarks.labels.arms import ALL_ARMS, ARMS, CONTROLS, DISTILLED, UNMIXING, WEIGHTS, weights_name
from benchmarks.labels.controls import LOG_ODDS, NEIGHBOURS, RATIOS, Growing, exchanged
from benchmarks.labels.labellers import LABELLERS
from benchmarks.training import create_model, cutmix
from timm_sumix import ModelOutput, SUMixOptions
from timm_sumix.correction import create_ratio


@pytest.fixture
def batch():
    """A mixed batch, its masks of objects, and outputs with evidence."""
    torch.manual_seed(0)
    data = digit_canvases(32)
    _, target = cutmix()(data.images, data.labels)
    outputs = ModelOutput(torch.randn(32, 10), features=torch.randn(32, 5), evidence=torch.rand(32, 8, 8))
    return target, data.masks, outputs


def _draw(count):
    """Return corrected shares that lean to one side, and shares by area, [count] each, a few of them 0 and 1."""
    generator = torch.Generator().manual_seed(count)
    area, noise = torch.rand(count, generator=generator), torch.randn(count, generator=generator)
    lam = torch.sigmoid(torch.logit(area) + 2. * noise + 0.7)
    area[:3], area[3:5], lam[5::4], lam[6::4] = 0., 1., 0., 1.
    return lam, area


def _log_odds(share):
    return torch.logit(share.double()).clamp(-LOG_ODDS, LOG_ODDS)


def _reference_exchanged(lam, area):
    """Return the exchanged shares, and the share of samples that got another one's correction."""
    shares, moved = area.double(), 0
    inner = ((area > 0) & (area < 1)).nonzero().squeeze(1)
    for rows in inner[area[inner].argsort()].split(NEIGHBOURS):
        order, base = torch.randperm(len(rows)), _log_odds(area[rows])
        given = base + (_log_odds(lam[rows]) - base)[order]
        shift = brentq(lambda shift: (torch.sigmoid(given + shift) - area[rows]).mean().item(), -42., 42.)  # noqa: B023
        shares[rows] = torch.sigmoid(given + shift)
        moved += (order != torch.arange(len(rows))).sum().item()
    return shares.float(), moved / len(area)


@pytest.mark.parametrize('count', [7, 205])
def test_each_correction_is_one_of_its_group_and_all_are_shifted_alike_to_the_mean_of_the_areas(count):
    lam, area = _draw(count)
    torch.manual_seed(0)
    expected, moved = _reference_exchanged(lam, area)
    torch.manual_seed(0)
    found = exchanged(lam, area)
    assert found.dtype == torch.float32 and torch.equal(found[:5], area[:5])  # 0 and 1 stay
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0.)
    assert found.mean() == pytest.approx(area.mean().item(), abs=1e-6)
    assert count == 7 or moved > 0.7 and (lam.mean() - area.mean()).abs() > 0.02  # to others; themselves they lean


def test_exchanging_draws_anew_leaves_what_is_drawn_after_it_and_one_or_none_that_is_mixed_as_it_is():
    lam, area = _draw(64)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = exchanged(lam, area)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert not torch.equal(exchanged(lam, area), first)
    torch.testing.assert_close(exchanged(area, area), area)  # no correction: nothing to exchange
    torch.testing.assert_close(exchanged(torch.tensor([0.9]), torch.tensor([0.3])), torch.tensor([0.3]))
    assert torch.equal(exchanged(torch.tensor([0.9, 0.2]), torch.ones(2)), torch.ones(2))


@pytest.mark.parametrize('name', ['combined', 'similarity', 'evidence', 'true'])
def test_a_shuffled_label_is_its_own_labels_share_exchanged(name, batch):
    target, masks, outputs = batch
    if name == 'true':
        plain, shuffled = (partial(LABELLERS[own], None, None, target, masks) for own in (name, f'{name}, shuffled'))
    else:
        ratios = create_ratio(name), RATIOS[f'{name}, shuffled'](10)
        assert ratios[1].needs == ratios[0].needs
        plain, shuffled = (partial(ratio, outputs, outputs, target) for ratio in ratios)
    torch.manual_seed(1)
    expected = exchanged(plain(), target.area)
    torch.manual_seed(1)
    assert torch.equal(shuffled(), expected) and not torch.equal(expected, plain())


@pytest.mark.parametrize('steps', [2, 5])
def test_growing_is_the_area_at_first_and_the_named_ratio_in_the_last_step_of_the_training(batch, monkeypatch, steps):
    target, _, outputs = batch
    growing, plain = Growing('similarity', steps), create_ratio('similarity')(outputs, outputs, target)
    assert growing.needs == create_ratio('similarity').needs
    shares = [growing(outputs, outputs, target) for _ in range(steps)]
    torch.testing.assert_close(shares[0], target.lam)
    torch.testing.assert_close(shares[-1], plain)
    far = [(own - target.lam).abs().mean() for own in shares]
    assert all(first < second for first, second in zip(far, far[1:]))
    asked, name = [], 'similarity, growing'
    monkeypatch.setitem(RATIOS, name, lambda steps: asked.append(steps) or growing)
    train_arm(create_model(), digit_canvases(150), Setting(images=150), ALL_ARMS[name], epochs=steps, seed=0)
    assert asked == [2 * steps]  # two batches of 64 an epoch


def test_an_arms_share_of_mixed_samples_and_its_smoothing_reach_the_mixing(monkeypatch):
    made = []
    monkeypatch.setattr(run, 'cutmix', lambda *args, **kwargs: made.append(args) or cutmix(*args, **kwargs))
    for name in ('area, smoothing 0.1', 'area, half mixed'):
        train_arm(create_model(), digit_canvases(), Setting(images=128), ALL_ARMS[name], epochs=1, seed=0)
    assert made == [(10, 1., 0.1, 'elem'), (10, 0.5, 0., 'elem')]


def test_no_arm_has_two_meanings_and_those_of_the_paper_and_of_unmixing_are_there():
    assert len(ALL_ARMS) == sum(map(len, (ARMS, CONTROLS, DISTILLED)))
    assert len({weights_name(weights) for weights in WEIGHTS}) == len(WEIGHTS)
    options = [SUMixOptions(**ALL_ARMS[weights_name(weights)].options) for weights in WEIGHTS]
    assert [own.create_ratio().weights for own in options] == list(WEIGHTS)
    assert SUMixOptions(**ARMS['paper'].options) == SUMixOptions.preset('paper')
    assert len({repr(arm) for arm in ALL_ARMS.values()}) == len(ALL_ARMS)
    changed = [name for name in ALL_ARMS if name.endswith(('shuffled', 'growing'))]
    assert all(name in (ALL_ARMS[name].ratio, ALL_ARMS[name].labeller) for name in changed)
    assert set(UNMIXING) <= set(ALL_ARMS) and len(set(UNMIXING)) == len(UNMIXING) == 20
