"""The settings in which models are compared: data, model and schedule of each."""
from typing import Dict, NamedTuple, Tuple, Union

from .drawn import place_drawings
from .emoji import load_drawings, split_drawings
from .objects import DEBIAN_FOLDER, load_objects
from .placed import ImageSet, place, plain, to_image_set


class Setting(NamedTuple):
    """Data, model and schedule of models that are compared.

    Args:
        data: 'Fashion-MNIST' or 'emoji'.
        size: Height and width of an object in pixels, the least and greatest of emoji; None: plain Fashion-MNIST, 28 x
            28.
        canvas: Height and width of a canvas in pixels.
        classes: Number of classes.
        images: Number of training images.
        epochs: Number of epochs.
        alpha: Alpha of CutMix.
        model: One of training.MODELS.
        mode: Mode of the mixing: 'batch', 'pair' or 'elem'.
        recipe: One of training.RECIPES.
    """
    data: str = 'Fashion-MNIST'
    size: Union[int, Tuple[int, int], None] = 14
    canvas: int = 32
    classes: int = 10
    images: int = 2000
    epochs: int = 40
    alpha: float = 1.
    model: str = 'cnn'
    mode: str = 'elem'
    recipe: str = 'adamw'


class Splits(NamedTuple):
    """Images to train on, images to test on, and further test images by name."""
    train: ImageSet
    test: ImageSet
    others: Dict[str, ImageSet]


SETTINGS = {
    'placed-14': Setting(),
    'placed-22': Setting(size=22),
    'placed-32': Setting(size=32),
    'plain': Setting(size=None),
    'placed-14-alpha0.2': Setting(alpha=0.2),
    'placed-14-short': Setting(images=8000, epochs=5),
    # 0.7 M parameters: shows what a ResNet-18 does, in minutes on one core
    'placed-14-wide': Setting(images=4000, epochs=60, model='wide', mode='pair', recipe='sgd'),
    'placed-14-vit': Setting(model='vit'),
    'placed-emoji': Setting(data='emoji', size=(14, 22), classes=20),
    'placed-emoji-48': Setting(
        data='emoji', size=(16, 32), canvas=48, classes=100, images=8000, epochs=12, model='resnet10t'),
}
TEST_IMAGES = 5000
OTHER_IMAGES = 2000  # of each further test set


def make_data(setting: Setting, seed: int) -> Splits:
    """Return training and test images of a setting.

    Of emoji, the test images are new canvases of the drawings that are trained on; further ones are of drawings by the
    same artists that are not, and of an artist that is not.
    """
    if setting.data == 'emoji':
        return _emoji(setting, seed)
    objects = load_objects(DEBIAN_FOLDER)[2:]
    counts = (setting.images, TEST_IMAGES)
    if setting.size is None:
        return Splits(*(to_image_set(plain(part, count)) for part, count in zip(objects, counts)), {})
    return Splits(*(
        to_image_set(place(part, count, canvas=setting.canvas, size=setting.size, seed=2 * seed + i))
        for i, (part, count) in enumerate(zip(objects, counts))), {})


def _emoji(setting: Setting, seed: int) -> Splits:
    drawings = load_drawings(classes=setting.classes)
    split = split_drawings(drawings)

    def make(part, count, number):
        things, artists = part.T
        return to_image_set(place_drawings(
            drawings.images[things, artists], things, count, setting.canvas, setting.size, seed=4 * seed + number))

    return Splits(make(split.train, setting.images, 0), make(split.train, TEST_IMAGES, 1), {
        'other drawings': make(split.other, OTHER_IMAGES, 2), 'other artist': make(split.unseen, OTHER_IMAGES, 3)})
