"""The picture of the problem: whose drawings it shows, and which mixtures."""
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import problem
from benchmarks.data import settings
from benchmarks.data.emoji import ARTISTS, Drawings, split_drawings
from benchmarks.data.settings import SETTINGS
from benchmarks.labels.truth import comparable
from benchmarks.training import create_model

THINGS = ('ant', 'sea-lion', 'rose', 'ship', 'crown', 'drum')


@pytest.fixture
def drawings(monkeypatch):
    """White squares."""
    images = np.full((6, 5, 64, 64, 4), 255, dtype=np.uint8)
    found = Drawings(images, THINGS, tuple(ARTISTS))
    for module in (problem, settings):
        monkeypatch.setattr(module, 'load_drawings', lambda classes: found)
    monkeypatch.setattr(settings, 'TEST_IMAGES', 400)
    monkeypatch.setattr(settings, 'OTHER_IMAGES', 8)
    monkeypatch.setitem(SETTINGS, 'placed-emoji', SETTINGS['placed-emoji']._replace(classes=6, images=8))
    return found


def test_only_two_artists_and_things_of_one_word_are_shown(drawings):
    mixtures = problem.make_mixtures('placed-emoji', seed=0)
    assert THINGS.index('sea-lion') not in mixtures.target.labels
    pairs = split_drawings(drawings).train
    allowed = [drawings.artists.index(artist) for artist in problem.ARTISTS]
    shown = [artist in allowed and THINGS[thing] != 'sea-lion' for thing, artist in pairs[np.arange(400) % len(pairs)]]
    assert len(mixtures.target) == sum(shown) > 50


def test_mixtures_are_at_percentiles_of_the_areas_error(drawings):
    mixtures = problem.make_mixtures('placed-emoji', seed=0)
    error = (mixtures.target.lam - mixtures.true).abs()
    usable = comparable(mixtures.target, mixtures.true)
    chosen = problem.choose(mixtures)
    assert all(usable[i] for i in chosen)
    for i, percentile in zip(chosen, problem.PERCENTILES):
        torch.testing.assert_close(error[i], error[usable].quantile(percentile / 100), atol=0.03, rtol=0)


def test_the_picture_is_drawn_from_a_checkpoint(drawings, tmp_path, monkeypatch):
    torch.save({'state_dict': create_model(6).state_dict()}, tmp_path / 'checkpoint.pth.tar')
    monkeypatch.setattr('sys.argv', [
        'problem', str(tmp_path / 'checkpoint.pth.tar'), '--out', str(tmp_path / 'problem.png')])
    problem.main()
    assert Image.open(tmp_path / 'problem.png').size == (1100, 390)
