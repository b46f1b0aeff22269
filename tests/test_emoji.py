"""Drawings placed on photographs: the split by artist, the masks, and fetching."""
import io
import json
import tarfile

import numpy as np
import pytest

from benchmarks.data import drawn, emoji
from benchmarks.data.drawn import place_drawings
from benchmarks.data.emoji import ARTISTS, UNSEEN, Drawings, load_drawings, split_drawings
from benchmarks.data.placed import CLUTTERS, PlacedImages
from benchmarks.demo import write_image_folder

THINGS = ('ant', 'lion', 'rose', 'tomato', 'ship', 'crown', 'dress', 'drum')
COLOURS = dict(zip(ARTISTS, ('#ff0000', '#00ff00', '#0000ff', '#ffff00', '#ff00ff')))


def _add(archive, name, content):
    data = json.dumps(content).encode()
    entry = tarfile.TarInfo(f'package/{name}.json')
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


@pytest.fixture
def packages(tmp_path):
    """A folder of packages in which each artist draws a disc of a colour of their own; 'drum' is an alias."""
    for artist, (package, licence) in ARTISTS.items():
        with tarfile.open(tmp_path / f'iconify-json-{package}.tgz', 'w:gz') as archive:
            body = f'<circle cx="50" cy="50" r="40" fill="{COLOURS[artist]}"/>'
            _add(archive, 'icons', {
                'icons': {thing: {'body': body} for thing in THINGS[:-1]}, 'aliases': {'drum': {'parent': 'ant'}},
                'width': 100, 'height': 100})
            _add(archive, 'info', {'license': {'spdx': licence}})
            _add(archive, 'metadata', {'categories': {category: [] for category in emoji.CATEGORIES} | {
                'Objects': [*THINGS, 'two-oclock', 'nobody-draws-this']}})
    return tmp_path


@pytest.fixture
def drawings():
    """Four things by five artists: squares with soft edges, the artist in the red channel, the thing in the green."""
    images = np.zeros((4, 5, 64, 64, 4), dtype=np.uint8)
    images[:, :, 10:54, 10:54, 3], images[:, :, 12:52, 12:52, 3] = 100, 255
    images[..., 0] = 40 + 40 * np.arange(5)[None, :, None, None]
    images[..., 1] = 40 + 40 * np.arange(4)[:, None, None, None]
    return Drawings(images, ('a', 'b', 'c', 'd'), tuple(ARTISTS))


def test_things_that_every_artist_draws_are_rendered_once(packages, monkeypatch):
    drawings = load_drawings(packages, classes=8)
    assert drawings.things == THINGS and drawings.artists == tuple(ARTISTS)
    assert drawings.images.shape == (8, 5, 64, 64, 4) and drawings.images.dtype == np.uint8
    for number, colour in enumerate(COLOURS.values()):
        wanted = [int(colour[i:i + 2], 16) for i in (1, 3, 5)]
        assert (drawings.images[:, number, 32, 32] == [*wanted, 255]).all()  # in the disc
        assert (drawings.images[:, number, 0, 0, 3] == 0).all()  # outside
    monkeypatch.setattr(emoji, '_render', None)
    assert load_drawings(packages, classes=3).things == ('ant', 'ship', 'drum')  # evenly spaced, from what is rendered


def test_another_licence_is_an_error(packages, monkeypatch):
    monkeypatch.setitem(ARTISTS, 'noto', (ARTISTS['noto'][0], 'GPL-3.0'))
    with pytest.raises(ValueError, match='must be under licence GPL-3.0, it states Apache-2.0'):
        load_drawings(packages)


def test_a_package_that_cannot_be_fetched_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', '')
    with pytest.raises(FileNotFoundError, match='noto-.*tgz must be there, or `npm pack @iconify-json/noto@'):
        load_drawings(tmp_path)


def test_too_many_classes_are_an_error(packages):
    with pytest.raises(ValueError, match=r'classes must be in \[2, 8\]'):
        load_drawings(packages, classes=9)


def test_no_drawing_is_in_two_parts_and_one_artist_is_in_none_but_one(drawings):
    split = split_drawings(drawings)
    parts = [{tuple(pair) for pair in part.tolist()} for part in split]
    assert sum(len(part) for part in parts) == len(set().union(*parts)) == 4 * 5  # all, each once
    unseen = drawings.artists.index(UNSEEN)
    assert {artist for _, artist in parts[2]} == {unseen}
    assert all(artist != unseen for part in parts[:2] for _, artist in part)
    for part, count in zip(parts, (3, 1, 1)):  # of every thing
        assert [sum(thing == own for own, _ in part) for thing in range(4)] == [count] * 4
    assert {artist for _, artist in parts[1]} == set(range(5)) - {unseen}  # of each artist some


def test_what_models_train_and_test_on_is_of_their_parts_artists_alone(drawings, monkeypatch):
    from benchmarks.data import settings
    from benchmarks.data.settings import Setting, make_data
    seen = []
    monkeypatch.setattr(settings, 'load_drawings', lambda classes: drawings)
    place = settings.place_drawings
    monkeypatch.setattr(settings, 'place_drawings', lambda images, labels, *args, **kwargs: (
        seen.append((images, labels)), place(images, labels, *args, **kwargs))[1])
    monkeypatch.setattr(settings, 'OTHER_IMAGES', 8)
    data = make_data(Setting(data='emoji', size=(14, 22), classes=4, images=24, test_images=12), 0)
    assert [len(part.labels) for part in (data.train, data.test, *data.others.values())] == [24, 12, 8, 8]
    artists = [set(((images[:, 32, 32, 0] - 40) // 40).tolist()) for images, _ in seen]
    unseen = drawings.artists.index(UNSEEN)
    assert artists[3] == {unseen} and all(unseen not in own for own in artists[:3])
    for images, labels in seen:
        assert (images[:, 32, 32, 1] == 40 + 40 * labels).all()  # each drawing has its thing's label
    trained, tested, other = ({tuple(i[32, 32, :2]) for i in images} for images, _ in seen[:3])
    assert trained == tested and not trained & other
    assert not np.array_equal(data.train.images[0], data.test.images[0])  # other canvases


def test_outside_its_mask_a_canvas_is_its_background_to_the_last_bit(drawings, monkeypatch):
    backgrounds = []

    def keep(*args):
        backgrounds.append(CLUTTERS['photographs'](*args))
        return backgrounds[-1]

    monkeypatch.setattr(drawn, 'CLUTTERS', {'photographs': keep})
    images = drawings.images.reshape(20, 64, 64, 4)
    placed = place_drawings(images, np.arange(20) % 4, 60, sizes=(12, 20), seed=3)
    background = (backgrounds[0] * 255).round().astype(np.uint8)
    assert placed.images.shape == (60, 32, 32, 3) and placed.masks.dtype == bool
    assert (placed.images[~placed.masks] == background[~placed.masks]).all()
    assert (placed.images[placed.masks] != background[placed.masks]).any(1).mean() > 0.95
    heights = np.array([mask.any(1).sum() for mask in placed.masks])
    assert heights.min() >= 8 and heights.max() <= 20 and len(set(heights.tolist())) > 4  # of several sizes
    assert (placed.labels == np.arange(60) % 20 % 4).all()


def test_the_same_seed_gives_the_same_canvases(drawings):
    images, labels = drawings.images.reshape(20, 64, 64, 4), np.arange(20) % 4
    first, again, other = (place_drawings(images, labels, 10, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.images, again.images) and not np.array_equal(first.images, other.images)


@pytest.mark.parametrize('sizes', [(0, 10), (12, 10), (12, 33)])
def test_sizes_out_of_range_are_an_error(drawings, sizes):
    with pytest.raises(ValueError, match=r'sizes must be \(least, greatest\) in \[1, 32\]'):
        place_drawings(drawings.images[0], np.zeros(5, dtype=int), 4, sizes=sizes)


def test_folders_of_more_than_ten_classes_are_sorted_by_label(tmp_path):
    images = np.zeros((12, 8, 8, 3), dtype=np.uint8)
    placed = PlacedImages(images, np.zeros((12, 8, 8), dtype=bool), np.arange(12))
    write_image_folder(placed.images, placed.labels, tuple('abcdefghijkl'), tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f'{i:02d}-{"abcdefghijkl"[i]}' for i in range(12)]
