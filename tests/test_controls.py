"""Controls of the comparison: each does what its name says."""
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F

from benchmarks.comparison.run import train_arm
from benchmarks.data.objects import load_digits_objects
from benchmarks.data.placed import place, to_image_set
from benchmarks.data.settings import SETTINGS, Setting
from benchmarks.labels.arms import ALL_ARMS, ARMS, ATTENTION, CONTROLS, DISTILLED, ONE_PASS, UNMIXING
from benchmarks.labels.controls import DECOUPLED_WEIGHT, EXTRAS, NEIGHBOURS, Shuffled
from benchmarks.training import MODELS, create_model, cutmix
from timm_sumix import MixedTarget, ModelOutput, SUMixOptions
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


def _plain_changes(target, outputs):
    return create_ratio('evidence')(outputs, outputs, target) - target.lam


def test_shuffled_corrections_are_those_of_other_samples_of_about_the_same_area(batch):
    target, _, outputs = batch
    plain, state = _plain_changes(target, outputs), torch.get_rng_state()
    shuffled = Shuffled()(outputs, outputs, target) - target.lam
    for rows in target.area.argsort().split(NEIGHBOURS):
        for row in rows.tolist():  # a correction of the group, cut where it would lead out of [0, 1]
            moved = (target.area[row] + plain[rows]).clamp(0., 1.) - target.area[row]
            assert (moved - shuffled[row]).abs().min() < 1e-5
    assert (shuffled - plain).abs().mean() > 0.02 and 0.8 < shuffled.abs().mean() / plain.abs().mean() < 1.1
    assert torch.equal(torch.get_rng_state(), state)  # what is drawn after it stays the same


def test_the_decoupled_term_asks_for_each_class_without_the_other():
    logits = torch.randn(3, 4, requires_grad=True)
    target = MixedTarget(torch.tensor([0, 1, 2]), torch.rand(3), 4, index=torch.tensor([1, 1, 0]))
    expected = 0.
    for row, a, b in ((0, 0, 1), (1, 1, 1), (2, 2, 0)):
        for own, other in ((a, b), (b, a)):
            kept = [c for c in range(4) if c != other or own == other]
            expected = expected - torch.log(logits[row, own].exp() / logits[row, kept].exp().sum())
    found = EXTRAS['decoupled'](None, None, logits, target)
    torch.testing.assert_close(found, DECOUPLED_WEIGHT * expected / 3)
    found.backward()
    assert logits.grad.isfinite().all()


def test_regmixup_adds_the_loss_of_unmixed_images():
    model, images, labels = torch.nn.Flatten(), torch.randn(4, 10, 1, 1), torch.arange(4)
    target = MixedTarget(labels, torch.ones(4), 10)
    torch.testing.assert_close(
        EXTRAS['regmixup'](model, images, None, target), F.cross_entropy(images.flatten(1), labels))


@pytest.mark.parametrize('arm', list(CONTROLS))
def test_every_control_trains_another_model(arm, base_models):
    data = to_image_set(place(load_digits_objects()[2], 128))
    torch.manual_seed(0)
    model = create_model()
    train_arm(model, data, Setting(images=128), ALL_ARMS[arm], epochs=1, seed=0)
    assert model.head.fc.weight.isfinite().all()
    for name in ('area', 'evidence', 'unmixed', 'combined'):  # it is neither of these
        base = base_models(name)
        assert not torch.equal(model.head.fc.weight, base.head.fc.weight)


def test_transmix_needs_a_transformer():
    data = to_image_set(place(load_digits_objects()[2], 128))
    with pytest.raises(ValueError, match="labeller 'transmix' needs a setting with model vit or deit, got cnn"):
        train_arm(create_model(), data, Setting(images=128), ATTENTION['transmix'], epochs=1, seed=0)
    train_arm(create_model(**MODELS['vit']), data, SETTINGS['placed-14-vit'], ATTENTION['transmix'], 1, 0)


def test_no_arm_has_two_meanings():
    groups = (ARMS, CONTROLS, ATTENTION, ONE_PASS, DISTILLED)
    assert len(ALL_ARMS) == sum(map(len, groups))


def test_the_arm_of_the_paper_is_the_preset_and_unmixing_names_arms_that_there_are():
    assert SUMixOptions(**ARMS['paper'].options) == SUMixOptions.preset('paper')
    assert set(UNMIXING) <= set(ALL_ARMS) and len(set(UNMIXING)) == 21
