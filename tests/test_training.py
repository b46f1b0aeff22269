"""Training in memory: the labels that the loss sees, and what is drawn."""
import pytest
import torch
from timm.loss import SoftTargetCrossEntropy

from benchmarks.data.objects import load_digits_objects
from benchmarks.data.placed import place, to_image_set
from benchmarks.labels.labellers import LABELLERS, Labels
from benchmarks.labels.losses import fade
from benchmarks.training import FadingCrossEntropy, create_model, cutmix, train
from timm_sumix import MixedTarget, SUMixLoss


def test_a_labeller_replaces_the_shares_that_the_loss_sees(monkeypatch):
    data = to_image_set(place(load_digits_objects()[2], 128))
    seen, used = [], []

    def labeller(model, mixed, target, masks):
        seen.append(LABELLERS['true'](model, mixed, target, masks))
        return seen[-1]

    torch.manual_seed(0)
    model = create_model()
    before, forward = model.head.fc.weight.detach().clone(), SUMixLoss.forward
    monkeypatch.setattr(SUMixLoss, 'forward', lambda self, mixed, original, target: (
        used.append(target.lam), forward(self, mixed, original, target))[1])
    train(model, data, cutmix(), epochs=1, seed=0, task_kwargs={'ratio': 'area', 'gamma': 0.}, labeller=labeller)
    assert len(seen) == len(used) == 2 and ((seen[0] >= 0) & (seen[0] <= 1)).all()
    assert not torch.equal(model.head.fc.weight, before)
    for labeller_said, loss_used in zip(seen, used):
        torch.testing.assert_close(loss_used, labeller_said)


def test_neither_a_head_nor_the_label_changes_what_is_drawn():
    data, drawn = to_image_set(place(load_digits_objects()[2], 128)), []
    for gamma, name in ((0., 'pass'), (0.5, 'pass'), (0., 'lumix')):
        lams = []

        def labeller(model, mixed, target, masks, lams=lams, name=name):
            lams.append(target.lam)
            return LABELLERS[name](model, mixed, target, masks)

        task_kwargs = {'ratio': 'similarity', 'gamma': gamma}
        train(create_model(), data, cutmix(), epochs=1, seed=0, task_kwargs=task_kwargs, labeller=labeller)
        drawn.append(torch.cat(lams))
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize('weight, expected', [(0., [0.25, 0.25, 0.25, 0.25]), (0.5, [0.425, 0.325, 0.125, 0.125]),
                                            (1., [0.6, 0.4, 0., 0.]), (1.5, [0.6, 0.4, 0., 0.])])
def test_a_faded_target_is_nearer_to_equal_the_less_is_visible(weight, expected):
    target = MixedTarget(torch.tensor([0, 1]), torch.tensor([0.6, 0.5]), num_classes=4)
    faded = fade(target.soft_target(), torch.tensor([weight, 1.]))
    torch.testing.assert_close(faded[0], torch.tensor(expected))
    torch.testing.assert_close(faded[1], torch.tensor([0.5, 0.5, 0., 0.]))


def test_the_loss_fades_targets_by_the_weights_of_the_labeller(monkeypatch):
    data = to_image_set(place(load_digits_objects()[2], 128))
    weights, targets = [], []

    def labeller(model, mixed, target, masks):
        weights.append(torch.rand(len(target)) * 1.5)
        return Labels(target.lam, weights[-1])

    forward = SoftTargetCrossEntropy.forward
    monkeypatch.setattr(SoftTargetCrossEntropy, 'forward', lambda self, x, target: (
        targets.append(target), forward(self, x, target))[1])
    task_kwargs = {'ratio': 'area', 'gamma': 0.}
    train(create_model(), data, cutmix(), epochs=1, seed=0, task_kwargs=task_kwargs, labeller=labeller)
    assert len(weights) == len(targets) == 2
    for weight, target in zip(weights, targets):
        torch.testing.assert_close(target.amin(1), (1. - weight.clamp(max=1.)) / 10)
        torch.testing.assert_close(target.sum(1), torch.ones(64))


def test_without_weights_the_criterion_is_plain_cross_entropy():
    logits, target = torch.randn(5, 4), torch.rand(5, 4).softmax(-1)
    assert torch.equal(FadingCrossEntropy()(logits, target), SoftTargetCrossEntropy()(logits, target))


@pytest.mark.parametrize('name', list(LABELLERS))
def test_a_labeller_leaves_the_target_as_it_is(name):
    data, model = to_image_set(place(load_digits_objects()[2], 16)), create_model().eval()
    mixed, target = cutmix()(data.images, data.labels)
    lam, attributes = target.lam.clone(), set(vars(target))
    with torch.no_grad():
        found = LABELLERS[name](model, mixed, target, data.masks)
    found = found if isinstance(found, Labels) else Labels(found)
    assert ((found.lam >= 0) & (found.lam <= 1)).all() and (found.weight is not None) == (
        'faded' in name or name == 'visible')
    assert torch.equal(target.lam, lam) and set(vars(target)) == attributes
