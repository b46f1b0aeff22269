"""The settings in which models are compared: data, model and schedule of each."""
from functools import lru_cache
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Tuple, Union

import numpy as np

from .drawn import place_drawings
from .emoji import load_drawings, split_drawings
from .objects import DEBIAN_FOLDER, Objects, load_objects
from .photographs import SOURCES, load_photographs
from .placed import ImageSet, PlacedImages, place, plain, to_image_set
from .stamps import Stamps, load_stamps, place_stamps


class Setting(NamedTuple):
    """Data, model and schedule of models that are compared.

    Args:
        data: 'Fashion-MNIST', 'emoji', 'stamps' (photographed objects), or one of photographs.SOURCES.
        size: Height and width of an object in pixels, or several, equally often; the least and greatest of emoji; None:
            plain Fashion-MNIST, 28 x 28.
        canvas: Height and width of a canvas, or of a photograph as the model sees it, in pixels.
        classes: Number of classes.
        images: Number of training images.
        epochs: Number of epochs.
        alpha: Alpha of CutMix.
        model: One of training.MODELS.
        mode: Mode of the mixing: 'batch', 'pair' or 'elem'.
        recipe: One of training.RECIPES.
        test_images: Number of test images.
        stored: Height and width of the photographs of which training takes crops.
    """
    data: str = 'Fashion-MNIST'
    size: Union[int, Tuple[int, ...], None] = 14
    canvas: int = 32
    classes: int = 10
    images: int = 2000
    epochs: int = 40
    alpha: float = 1.
    model: str = 'cnn'
    mode: str = 'elem'
    recipe: str = 'adamw'
    test_images: int = 5000
    stored: int = 32

    @property
    def is_real(self) -> bool:
        """Whether the images are photographs as they are published, nothing pasted."""
        return self.data in SOURCES


class Splits(NamedTuple):
    """Images to train on, images to test on, and further test images by name."""
    train: ImageSet
    test: ImageSet
    others: Dict[str, ImageSet]


# a common model, as long as a GPU that is there for minutes allows
_RESNET18 = Setting(images=5000, epochs=60, model='resnet18', mode='pair', recipe='sgd', test_images=10000)
# as deep, in ten minutes on one core
_NARROW = _RESNET18._replace(images=1500, model='resnet18-narrow', test_images=3000)
SETTINGS = {
    'placed-14': Setting(),
    # 0.7 M parameters, ten minutes on one core
    'placed-14-wide': Setting(images=4000, epochs=60, model='wide', mode='pair', recipe='sgd'),
    'placed-emoji': Setting(data='emoji', size=(14, 22), classes=20),
    'resnet18': _RESNET18,
    'resnet18-narrow': _NARROW,
    'resnet18-narrow-sizes': _NARROW._replace(size=(10, 15, 22)),
    'resnet18-long': _RESNET18._replace(epochs=120),
    'resnet18-sizes': _RESNET18._replace(size=(10, 15, 22)),
    'resnet18-emoji': _RESNET18._replace(data='emoji', size=(14, 22), classes=100),
    'resnet18-alpha0.2': _RESNET18._replace(alpha=0.2),
    'resnet18-plain': _RESNET18._replace(size=None, images=60000, epochs=10),
    'deit': Setting(
        size=(10, 15, 22), images=60000, epochs=20, model='deit', mode='pair', recipe='deit', test_images=10000),
    'lite0-photographs': Setting(
        data='stamps', size=(32, 48, 64), canvas=128, classes=231, images=4620, epochs=6, model='lite0', mode='pair'),
}
# photographs as they are published; few of them and many epochs, so that mixing helps on the minutes of a CPU
_CIFAR = Setting(
    data='cifar100', size=None, classes=100, images=3000, epochs=80, model='wide', mode='pair', recipe='cifar',
    test_images=10000)
SETTINGS.update({
    'cifar100': _CIFAR,
    'cifar100-2000': _CIFAR._replace(images=2000),
    'caltech101': Setting(
        data='caltech101', size=None, canvas=112, classes=101, images=3030, epochs=8, model='lite0', mode='pair',
        recipe='fine-tuning', test_images=3030, stored=126),
})
OTHER_IMAGES = 2000  # of each further test set


@lru_cache(1)  # the runs of a seed follow each other
def make_data(setting: Setting, seed: int, data_dir: Optional[Path] = None) -> Splits:
    """Return training and test images of a setting; photographs are looked for in `data_dir`.

    Of emoji, the test images are new canvases of the drawings that are trained on; further ones are of drawings by the
    same artists that are not, and of an artist that is not. Of stamps they are new canvases too: each photograph is a
    class, and the backgrounds are of the same photographs.
    """
    if setting.is_real:
        return _photographs(setting, data_dir)
    if setting.data == 'emoji':
        return _emoji(setting, seed)
    if setting.data == 'stamps':
        train = test = load_stamps()
    else:
        train, test = load_objects(DEBIAN_FOLDER)[2:]
    return Splits(
        _placed(setting, train, setting.images, 2 * seed), _placed(setting, test, setting.test_images, 2 * seed + 1),
        {})


@lru_cache(1)  # of all seeds
def _photographs(setting: Setting, data_dir: Optional[Path]) -> Splits:
    return Splits(*load_photographs(
        setting.data, data_dir, setting.images, setting.test_images, setting.canvas, setting.stored), {})


def _placed(setting: Setting, objects: Union[Objects, Stamps], count: int, seed: int) -> ImageSet:
    """Return `count` canvases; of several sizes, as many canvases have each size."""
    if setting.size is None:
        return to_image_set(plain(objects, count))
    sizes = setting.size if isinstance(setting.size, tuple) else (setting.size,)
    make = place_stamps if isinstance(objects, Stamps) else place
    parts = [
        make(
            _part(objects, i, len(sizes)), len(range(i, count, len(sizes))), size=size, canvas=setting.canvas,
            seed=len(sizes) * seed + i)
        for i, size in enumerate(sizes)]
    return to_image_set(PlacedImages(*(np.concatenate(arrays) for arrays in zip(*parts))))


def _part(objects: Union[Objects, Stamps], first: int, step: int) -> Union[Objects, Stamps]:
    """Return every step-th object; of stamps all, since each is a class."""
    return objects if isinstance(objects, Stamps) else Objects(*(array[first::step] for array in objects))


def _emoji(setting: Setting, seed: int) -> Splits:
    drawings = load_drawings(classes=setting.classes)
    split = split_drawings(drawings)

    def make(part, count, number):
        things, artists = part.T
        return to_image_set(place_drawings(
            drawings.images[things, artists], things, count, setting.canvas, setting.size, seed=4 * seed + number))

    return Splits(make(split.train, setting.images, 0), make(split.train, setting.test_images, 1), {
        'other drawings': make(split.other, OTHER_IMAGES, 2), 'other artist': make(split.unseen, OTHER_IMAGES, 3)})
