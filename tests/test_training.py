"""Training in memory: the labels that the loss sees, and what is drawn."""
import pytest
import torch

from benchmarks.data.objects import load_digits_objects
from benchmarks.data.placed import place, to_image_set
from benchmarks.labels.labellers import LABELLERS
from benchmarks.training import create_model, cutmix, train
from timm_sumix import SUMixLoss


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


@pytest.mark.parametrize('name', list(LABELLERS))
def test_a_labeller_leaves_the_target_as_it_is(name):
    data, model = to_image_set(place(load_digits_objects()[2], 16)), create_model().eval()
    mixed, target = cutmix()(data.images, data.labels)
    lam, attributes = target.lam.clone(), set(vars(target))
    with torch.no_grad():
        found = LABELLERS[name](model, mixed, target, data.masks)
    assert ((found >= 0) & (found <= 1)).all()
    assert torch.equal(target.lam, lam) and set(vars(target)) == attributes


def test_the_error_of_the_labels_is_told_by_epoch():
    data = to_image_set(place(load_digits_objects()[2], 128))

    def errors(labeller, prob=1.):
        model = create_model()
        return train(
            model, data, cutmix(prob=prob, mode='pair'), epochs=2, seed=0, task_kwargs={'ratio': 'area'},
            labeller=labeller)

    assert errors(LABELLERS['true, one pass']) == pytest.approx([0., 0.], abs=1e-6)
    assert errors(None, prob=0.) == [0., 0.]
    half = errors(lambda model, mixed, target, masks: torch.full_like(target.lam, 0.5))
    area = errors(None)
    assert len(area) == 2 and all(0.1 < error < 0.4 for error in area) and area != half
    assert errors(None, prob=0.5) == pytest.approx(area, abs=0.06)  # samples that are not mixed do not count
