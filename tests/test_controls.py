"""Controls of the comparison: each does what its name says."""
from functools import lru_cache

import pytest
import torch

from benchmarks.comparison.run import train_arm
from benchmarks.data.objects import load_digits_objects
from benchmarks.data.placed import place, to_image_set
from benchmarks.data.settings import Setting
from benchmarks.labels.arms import ALL_ARMS, ARMS, CONTROLS, DISTILLED, UNMIXING, WEIGHTS, weights_name
from benchmarks.labels.controls import LOG_ODDS, NEIGHBOURS, RATIOS, Growing, Shuffled, exchanged
from benchmarks.labels.labellers import LABELLERS
from benchmarks.training import MODELS, create_model, cutmix
from timm_sumix import ModelOutput, SUMixOptions
from timm_sumix.correction import create_ratio


@pytest.fixture
def batch():
    """A mixed batch, its masks of objects, and outputs with evidence."""
    torch.manual_seed(0)
    data = to_image_set(place(load_digits_objects()[2], 32))
    _, target = cutmix()(data.images, data.labels)
    outputs = ModelOutput(torch.randn(32, 10), features=torch.randn(32, 5), evidence=torch.rand(32, 8, 8))
    return target, data.masks, outputs


@pytest.fixture(scope='module')
def base_models():
    """Return a function that gives the model of an arm, trained as the test trains the others."""
    @lru_cache
    def trained(arm):
        torch.manual_seed(0)
        model = create_model()
        train_arm(
            model, to_image_set(place(load_digits_objects()[2], 128)), Setting(images=128), ALL_ARMS[arm], 1, seed=0)
        return model

    return trained


def _draw(count, extremes=False):
    """Return corrected shares that lean to one side, and shares by area, [count] each, a few of them 0 and 1."""
    generator = torch.Generator().manual_seed(count)
    area, noise = torch.rand(count, generator=generator), torch.randn(count, generator=generator)
    lam = torch.sigmoid(torch.logit(area) + 2. * noise + 0.7)
    area[:3], area[3:5] = 0., 1.
    if extremes:
        lam[5::4], lam[6::4] = 0., 1.
    return lam, area


def _log_odds(share):
    return torch.logit(share.double()).clamp(-LOG_ODDS, LOG_ODDS)


def _groups(area):
    """Return the rows of each group of neighbours by area, those of 0 and 1 left out."""
    inner = ((area > 0) & (area < 1)).nonzero().squeeze(1)
    return inner[area[inner].argsort()].split(NEIGHBOURS)


@pytest.mark.parametrize('extremes', [False, True])
@pytest.mark.parametrize('count', [7, 128, 20000])
def test_exchanged_shares_have_the_mean_of_the_areas_whatever_the_area(count, extremes):
    lam, area = _draw(count, extremes)
    found = exchanged(lam, area)
    assert found.dtype == torch.float32 and ((found >= 0) & (found <= 1)).all()
    assert torch.equal(found[:5], area[:5])  # 0 and 1 stay
    for rows in _groups(area):
        assert found[rows].double().mean() == pytest.approx(area[rows].double().mean().item(), abs=1e-6)
    if count == 20000:
        assert (lam.mean() - area.mean()).abs() > 0.02  # which the corrections themselves do not have
        for low in torch.arange(0., 1., 0.1).tolist():
            own = (area >= low) & (area < low + 0.1)
            assert found[own].mean() == pytest.approx(area[own].mean().item(), abs=1e-3)


@pytest.mark.parametrize('extremes', [False, True])
def test_each_correction_is_one_of_its_group_and_all_are_shifted_alike(extremes):
    lam, area = _draw(205, extremes)
    corrections = _log_odds(lam) - _log_odds(area)
    moved = 0
    for rows in _groups(area):
        found = exchanged(lam, area)[rows].double()
        if extremes:  # log-odds of float32 shares next to 0 and 1 are not exact: compare shares
            shift = _fitted_shift(area, corrections, rows, found)
            expected = torch.sigmoid(_log_odds(area[rows])[:, None] + corrections[rows][None] + shift)
            assert (expected - found[:, None]).abs().amin(1).max() < 1e-5
            continue
        own = torch.logit(found) - _log_odds(area[rows])
        shift = (own.sum() - corrections[rows].sum()) / len(rows)
        torch.testing.assert_close((own - shift).sort().values, corrections[rows].sort().values, atol=2e-3, rtol=0.)
        moved += ((own - shift - corrections[rows]).abs() > 1e-2).sum().item()
    assert extremes or moved > 0.7 * len(area)  # to other samples


def _fitted_shift(area, corrections, rows, found):
    """Return the shift by which each found share is that of some correction of the group, from those that one says."""
    base = _log_odds(area[rows])
    row = (found - 0.5).abs().argmin()  # whose log-odds are exact
    candidates = torch.logit(found[row]) - base[row] - corrections[rows]
    errors = [
        (torch.sigmoid(base[:, None] + corrections[rows][None] + shift) - found[:, None]).abs().amin(1).max().item()
        for shift in candidates]
    return candidates[errors.index(min(errors))]


def test_exchanging_draws_anew_and_leaves_what_is_drawn_after_it_as_it_is():
    lam, area = _draw(64)
    before = lam.clone(), area.clone()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = exchanged(lam, area)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert not torch.equal(exchanged(lam, area), first)
    assert torch.equal(lam, before[0]) and torch.equal(area, before[1])
    torch.testing.assert_close(exchanged(area, area), area)  # no correction: nothing to exchange


def test_a_batch_of_one_and_one_without_mixing_stay_by_area():
    torch.testing.assert_close(exchanged(torch.tensor([0.9]), torch.tensor([0.3])), torch.tensor([0.3]))
    assert torch.equal(exchanged(torch.tensor([0.9, 0.2]), torch.ones(2)), torch.ones(2))


@pytest.mark.parametrize('name', ['combined', 'similarity', 'evidence'])
def test_the_shuffled_ratio_gives_its_own_ratios_shares_exchanged(name, batch):
    target, _, outputs = batch
    plain, shuffled = create_ratio(name), RATIOS[f'{name}, shuffled'](10)
    assert isinstance(shuffled, Shuffled) and shuffled.needs == plain.needs
    torch.manual_seed(1)
    expected = exchanged(plain(outputs, outputs, target), target.area)
    torch.manual_seed(1)
    assert torch.equal(shuffled(outputs, outputs, target), expected)
    assert not torch.equal(expected, plain(outputs, outputs, target))


def test_the_truth_is_exchanged_likewise(batch):
    target, masks, _ = batch
    torch.manual_seed(1)
    true = LABELLERS['true'](None, None, target, masks)
    expected = exchanged(true, target.area)
    torch.manual_seed(1)
    assert torch.equal(LABELLERS['true, shuffled'](None, None, target, masks), expected)
    assert not torch.equal(expected, true)


@pytest.mark.parametrize('steps', [2, 5])
def test_growing_is_the_area_at_first_and_the_named_ratio_in_the_last_step(batch, steps):
    target, _, outputs = batch
    growing, plain = Growing('similarity', steps), create_ratio('similarity')(outputs, outputs, target)
    assert growing.needs == create_ratio('similarity').needs
    shares = [growing(outputs, outputs, target) for _ in range(steps + 1)]
    torch.testing.assert_close(shares[0], target.lam)
    for last in shares[-2:]:  # and after it
        torch.testing.assert_close(last, plain)
    far = [(own - target.lam).abs().mean() for own in shares[:steps]]
    assert all(first < second for first, second in zip(far, far[1:]))


@pytest.mark.parametrize('arm', list(CONTROLS))
def test_every_control_trains_another_model(arm, base_models):
    data = to_image_set(place(load_digits_objects()[2], 128))
    torch.manual_seed(0)
    model = create_model()
    train_arm(model, data, Setting(images=128), ALL_ARMS[arm], epochs=1, seed=0)
    assert model.head.fc.weight.isfinite().all()
    for name in ('area', 'evidence', 'similarity', 'combined', 'true'):  # it is none of these
        base = base_models(name)
        assert not torch.equal(model.head.fc.weight, base.head.fc.weight)


def test_a_correction_that_grows_knows_how_many_steps_there_are(monkeypatch):
    asked, name = [], 'similarity, growing'
    monkeypatch.setitem(RATIOS, name, lambda steps: asked.append(steps) or Growing('similarity', steps))
    data = to_image_set(place(load_digits_objects()[2], 150))
    train_arm(create_model(), data, Setting(images=150), ALL_ARMS[name], epochs=3, seed=0)
    assert asked == [6]  # two batches of 64 an epoch


def test_transmix_needs_a_transformer():
    data, arm = to_image_set(place(load_digits_objects()[2], 128)), ARMS['transmix']
    with pytest.raises(ValueError, match="labeller 'transmix' needs a setting with model vit or deit, got cnn"):
        train_arm(create_model(), data, Setting(images=128), arm, epochs=1, seed=0)
    train_arm(create_model(**MODELS['vit']), data, Setting(images=128, model='vit'), arm, 1, 0)


def test_no_arm_has_two_meanings():
    assert len(ALL_ARMS) == sum(map(len, (ARMS, CONTROLS, DISTILLED)))
    assert len({weights_name(weights) for weights in WEIGHTS}) == len(WEIGHTS)
    options = [SUMixOptions(**ALL_ARMS[weights_name(weights)].options) for weights in WEIGHTS]
    assert [own.create_ratio().weights for own in options] == list(WEIGHTS)


def test_the_arm_of_the_paper_is_the_preset_and_unmixing_names_arms_that_there_are():
    assert SUMixOptions(**ARMS['paper'].options) == SUMixOptions.preset('paper')
    assert set(UNMIXING) <= set(ALL_ARMS) and len(set(UNMIXING)) == len(UNMIXING) == 20
