"""The settings in which models are compared: data and schedule of each."""
from typing import NamedTuple, Optional, Tuple

from .images import ImageSet, to_image_set
from .objects import DEBIAN_FOLDER, load_objects
from .placed import place, plain


class Setting(NamedTuple):
    """Data and schedule of models that are compared.

    Args:
        size: Height and width of an object in pixels, on canvases of 32; None: plain Fashion-MNIST, 28 x 28.
        images: Number of training images.
        epochs: Number of epochs.
        alpha: Alpha of CutMix.
    """
    size: Optional[int] = 14
    images: int = 2000
    epochs: int = 40
    alpha: float = 1.


SETTINGS = {
    'placed-14': Setting(),
    'placed-22': Setting(size=22),
    'placed-32': Setting(size=32),
    'plain': Setting(size=None),
    'placed-14-alpha0.2': Setting(alpha=0.2),
    'placed-14-short': Setting(images=8000, epochs=5),
}
TEST_IMAGES = 5000


def make_data(setting: Setting, seed: int) -> Tuple[ImageSet, ImageSet]:
    """Return training and test images of a setting."""
    splits = load_objects(DEBIAN_FOLDER)[2:]
    counts = (setting.images, TEST_IMAGES)
    if setting.size is None:
        return tuple(to_image_set(plain(objects, count)) for objects, count in zip(splits, counts))
    return tuple(
        to_image_set(place(objects, count, size=setting.size, seed=2 * seed + part))
        for part, (objects, count) in enumerate(zip(splits, counts)))
