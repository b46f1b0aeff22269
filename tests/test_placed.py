"""Objects on canvases, and the files that they are read from."""
import gzip

import numpy as np

from benchmarks.data.objects import FILES, Objects, load_objects
from benchmarks.data.placed import place


def test_the_mask_is_where_the_object_is():
    objects = Objects(np.ones((2, 14, 14), dtype=np.float32), np.array([0, 1]))
    placed = place(objects, 50, canvas=32, size=14)
    assert placed.images.shape == (50, 32, 32, 3) and (placed.masks.sum((1, 2)) == 14 * 14).all()
    assert placed.images[placed.masks].min() >= 0.6 * 255  # objects are brighter than
    assert placed.images[~placed.masks].max() <= 0.61 * 255  # the clutter of dimmed pieces
    assert len(np.unique(placed.masks.argmax(1), axis=0)) > 20  # places differ
    assert placed.labels.tolist() == [0, 1] * 25


def test_places_depend_on_the_seed_alone():
    objects = Objects(np.random.default_rng(0).random((9, 8, 8), dtype=np.float32), np.arange(9))
    first, second, other = (place(objects, 9, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    assert not np.array_equal(first.images, other.images)


def test_fashion_mnist_is_read_as_published(tmp_path):
    pixels = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
    for name in FILES:
        values = pixels if 'images' in name else np.array([4, 0, 9], dtype=np.uint8)
        header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype='>i4').tobytes()
        (tmp_path / name).write_bytes(gzip.compress(header + values.tobytes()))
    name, classes, train, test = load_objects(tmp_path)
    assert (name, len(classes)) == ('Fashion-MNIST', 10) and train.labels.tolist() == test.labels.tolist() == [4, 0, 9]
    np.testing.assert_allclose(train.images * 255, pixels, rtol=1e-6)
