"""Training in memory: the labels that the loss sees, what is drawn, crops and precision."""
import pytest
import torch
from helpers import digit_canvases

from benchmarks.data.placed import ImageSet
from benchmarks.labels.labellers import LABELLERS
from benchmarks.training import RECIPES, Recipe, create_model, cutmix, train
from timm_sumix import SUMixLoss


def test_a_labeller_replaces_the_shares_that_the_loss_sees(monkeypatch):
    seen, used = [], []

    def labeller(model, mixed, target, masks):
        seen.append(LABELLERS['true'](model, mixed, target, masks))
        return seen[-1]

    torch.manual_seed(0)
    model = create_model()
    before, forward = model.head.fc.weight.detach().clone(), SUMixLoss.forward
    monkeypatch.setattr(SUMixLoss, 'forward', lambda self, mixed, original, target: (
        used.append(target.lam), forward(self, mixed, original, target))[1])
    train(model, digit_canvases(), cutmix(), epochs=1, seed=0, task_kwargs={'ratio': 'area'}, labeller=labeller)
    assert len(seen) == len(used) == 2 and ((seen[0] >= 0) & (seen[0] <= 1)).all()
    assert not torch.equal(model.head.fc.weight, before)
    for labeller_said, loss_used in zip(seen, used):
        torch.testing.assert_close(loss_used, labeller_said)


def test_neither_a_head_nor_the_label_changes_what_is_drawn():
    data, drawn = digit_canvases(), []
    for gamma, name in ((0., 'snapmix'), (0.5, 'snapmix'), (0., 'lumix'), (0., 'true, shuffled')):
        lams = []

        def labeller(model, mixed, target, masks, lams=lams, name=name):
            lams.append(target.lam)
            return LABELLERS[name](model, mixed, target, masks)

        task_kwargs = {'ratio': 'similarity', 'gamma': gamma}
        train(create_model(), data, cutmix(), epochs=1, seed=0, task_kwargs=task_kwargs, labeller=labeller)
        drawn.append(torch.cat(lams))
    assert all(torch.equal(drawn[0], other) for other in drawn[1:])


@pytest.mark.parametrize('name', list(LABELLERS))
def test_a_labeller_leaves_the_target_as_it_is(name):
    data, model = digit_canvases(16), create_model().eval()
    mixed, target = cutmix()(data.images, data.labels)
    lam, attributes = target.lam.clone(), set(vars(target))
    with torch.no_grad():
        found = LABELLERS[name](model, mixed, target, data.masks)
    assert ((found >= 0) & (found <= 1)).all()
    assert torch.equal(target.lam, lam) and set(vars(target)) == attributes


def test_the_error_of_the_labels_is_told_by_epoch():
    data = digit_canvases()

    def errors(labeller, prob=1., data=data):
        return train(
            create_model(), data, cutmix(prob=prob, mode='pair'), epochs=2, seed=0, task_kwargs={'ratio': 'area'},
            labeller=labeller)

    assert errors(LABELLERS['true']) == pytest.approx([0., 0.], abs=1e-6)
    assert errors(None, prob=0.) == [None, None]  # there is nothing to compare
    assert errors(None, data=data._replace(masks=torch.zeros_like(data.masks))) == [None, None]  # no object is known
    half = errors(lambda model, mixed, target, masks: torch.full_like(target.lam, 0.5))
    area = errors(None)
    assert len(area) == 2 and all(0.1 < error < 0.4 for error in area) and area != half
    assert errors(None, prob=0.5) == pytest.approx(area, abs=0.06)  # samples that are not mixed do not count


def _places(count, size):
    """Return images [count, 3, size, size] whose pixels say image, row and column, and masks that follow from these."""
    which, row, column = torch.meshgrid(torch.arange(count), *[torch.arange(size)] * 2, indexing='ij')
    images = torch.stack([which, row, column], 1).float() + 1.  # 0 is padding
    return ImageSet(images, (row * size + column + which) % 3 == 0, torch.zeros(count, dtype=torch.int64))


class _Keeps(torch.nn.Module):
    """A model that keeps the images it sees."""

    def __init__(self):
        super().__init__()
        self.seen, self.head = [], torch.nn.Linear(3, 2)

    def forward(self, x):
        self.seen.append(x)
        return self.head(x.mean((2, 3)))

    forward_features = forward


def _seen(data, model, recipe, epochs=1, crop=None):
    """Train, and return the images and masks that were mixed."""
    seen = []
    train(
        model, data, cutmix(2, prob=0.), epochs=epochs, seed=0, recipe=recipe, task_kwargs={'ratio': 'area'}, crop=crop,
        labeller=lambda model, mixed, target, masks: (seen.append((target.original, masks)), target.lam)[1])
    return [torch.cat(parts) for parts in zip(*seen)]


@pytest.mark.parametrize('pad', [0, 2])
@pytest.mark.parametrize('crop', [9, 6])
def test_each_crop_is_a_window_of_the_padded_image_and_of_its_mask(crop, pad):
    data, model, starts = _places(60, 9), _Keeps(), set()
    padded, padded_masks = (torch.nn.functional.pad(part, (pad,) * 4) for part in data[:2])
    for image, mask in zip(*_seen(data, model, Recipe('sgd', 0., 20, flips=False, pad=pad), 3, crop)):
        assert image.shape == (3, crop, crop) and mask.shape == (crop, crop) and mask.dtype == torch.bool
        inner = image[:, image[0] > 0]  # never all padding
        assert (inner[0] == inner[0, 0]).all()  # of one image
        which, rows, columns = int(inner[0, 0]) - 1, image[1].amax(1), image[2].amax(0)
        row, column = (
            next(int(value) - 1 - i for i, value in enumerate(values.tolist()) if value) + pad
            for values in (rows, columns))
        window = slice(row, row + crop), slice(column, column + crop)
        assert torch.equal(image, padded[(which, slice(None), *window)])
        assert torch.equal(mask, padded_masks[(which, *window)])
        starts.add((row, column))
    assert len(starts) > min(60, (9 + 2 * pad - crop + 1) ** 2) * 0.6  # and everywhere
    assert {tuple(x.shape[1:]) for x in model.seen} == {(3, crop, crop)}


def test_without_a_crop_images_are_seen_whole_and_flipped_with_their_masks():
    data, flipped = _places(40, 6), 0
    for image, mask in zip(*_seen(data, _Keeps(), Recipe('sgd', 0., 20, flips=True))):
        which, is_flipped = int(image[0, 0, 0]) - 1, image[2, 0, 0] == 6
        flipped += int(is_flipped)
        own = [part[which].flip(-1) if is_flipped else part[which] for part in (data.images, data.masks)]
        assert torch.equal(image, own[0]) and torch.equal(mask, own[1])
    assert 10 < flipped < 30


@pytest.mark.parametrize('amp', [False, True])
def test_a_recipe_says_whether_passes_are_in_half_precision(amp):
    data, kinds = digit_canvases(), set()
    model = create_model()
    model.stem.conv.register_forward_hook(
        lambda module, inputs, output: kinds.add(output.dtype) if module.training else None)
    recipe = RECIPES['adamw']._replace(amp=amp)
    train(model, data, cutmix(mode='pair'), epochs=1, seed=0, recipe=recipe, task_kwargs={'ratio': 'combined'})
    assert kinds == {torch.bfloat16 if amp else torch.float32}
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in model.parameters())
