"""Training in memory: the labels that the loss sees, what is drawn, and crops."""
import pytest
import torch
from helpers import digit_canvases

from benchmarks.data.placed import ImageSet
from benchmarks.labels.labellers import LABELLERS
from benchmarks.training import Recipe, create_model, cutmix, train
from timm_sumix import SUMixLoss


def test_a_labeller_replaces_the_shares_that_the_loss_sees(monkeypatch):
    seen, used = [], []

    def labeller(model, mixed, target, masks):
        seen.append(LABELLERS['true'](model, mixed, target, masks))
        return seen[-1]

    forward = SUMixLoss.forward
    monkeypatch.setattr(SUMixLoss, 'forward', lambda self, mixed, original, target: (
        used.append(target.lam), forward(self, mixed, original, target))[1])
    model, task_kwargs = create_model(), {'ratio': 'area'}
    train(model, digit_canvases(), cutmix(), epochs=1, seed=0, task_kwargs=task_kwargs, labeller=labeller)
    assert len(seen) == len(used) == 2 and ((seen[0] >= 0) & (seen[0] <= 1)).all()
    for labeller_said, loss_used in zip(seen, used):
        torch.testing.assert_close(loss_used, labeller_said)


def test_neither_a_head_nor_the_label_changes_what_is_drawn():
    data, drawn = digit_canvases(), []
    for gamma, name in ((0.5, 'snapmix'), *((0., name) for name in LABELLERS)):
        lams = []

        def labeller(model, mixed, target, masks, lams=lams, name=name):
            lams.append(target.lam)
            return LABELLERS[name](model, mixed, target, masks)

        task_kwargs = {'ratio': 'similarity', 'gamma': gamma}
        train(create_model(), data, cutmix(), epochs=1, seed=0, task_kwargs=task_kwargs, labeller=labeller)
        drawn.append(torch.cat(lams))
    assert all(torch.equal(drawn[0], other) for other in drawn[1:])


def test_the_error_of_the_labels_is_told_by_epoch():
    data = digit_canvases()

    def errors(labeller, prob=1.):
        return train(
            create_model(), data, cutmix(prob=prob, mode='pair'), epochs=2, seed=0, task_kwargs={'ratio': 'area'},
            labeller=labeller)

    assert errors(LABELLERS['true']) == pytest.approx([0., 0.], abs=1e-6)
    half = errors(lambda model, mixed, target, masks: torch.full_like(target.lam, 0.5))
    area = errors(None)
    assert len(area) == 2 and all(0.1 < error < 0.4 for error in area) and area != half
    assert errors(None, prob=0.5) == pytest.approx(area, abs=0.06)  # samples that are not mixed do not count


def _places(count, size):
    """Return images [count, 3, size, size] whose pixels say image, row and column, and masks that follow from these."""
    which, row, column = torch.meshgrid(torch.arange(count), *[torch.arange(size)] * 2, indexing='ij')
    images = torch.stack([which, row, column], 1).float() + 1.  # 0 is padding
    return ImageSet(images, (row * size + column + which) % 3 == 0, torch.zeros(count, dtype=torch.int64))


def _seen(data, recipe, epochs=1, crop=None):
    """Train, and return the images that the model saw, none of them mixed, and their masks."""
    seen = []
    train(
        create_model(), data, cutmix(prob=0.), epochs=epochs, seed=0, recipe=recipe, crop=crop,
        task_kwargs={'ratio': 'area'},
        labeller=lambda model, mixed, target, masks: (seen.append((mixed, masks)), target.lam)[1])
    return [torch.cat(parts) for parts in zip(*seen)]


@pytest.mark.parametrize('pad', [0, 2])
@pytest.mark.parametrize('crop', [9, 6])
def test_each_crop_is_a_window_of_the_padded_image_and_of_its_mask(crop, pad):
    data, starts = _places(60, 9), set()
    padded, padded_masks = (torch.nn.functional.pad(part, (pad,) * 4) for part in data[:2])
    for image, mask in zip(*_seen(data, Recipe('sgd', 0., 20, flips=False, pad=pad), 3, crop)):
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


def test_without_a_crop_images_are_seen_whole_and_flipped_with_their_masks():
    data, flipped = _places(40, 6), 0
    for image, mask in zip(*_seen(data, Recipe('sgd', 0., 20, flips=True))):
        which, is_flipped = int(image[0, 0, 0]) - 1, image[2, 0, 0] == 6
        flipped += int(is_flipped)
        own = [part[which].flip(-1) if is_flipped else part[which] for part in (data.images, data.masks)]
        assert torch.equal(image, own[0]) and torch.equal(mask, own[1])
    assert 10 < flipped < 30
