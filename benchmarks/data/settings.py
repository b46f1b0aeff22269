"""The settings in which models are compared: data, model and schedule of each."""
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Optional, Tuple, Union

import numpy as np

from .objects import DEBIAN_FOLDER, Objects, load_objects
from .photographs import SOURCES, load_photographs
from .placed import ImageSet, PlacedImages, place, plain, to_image_set
from .stamps import Stamps, load_stamps, place_stamps


class Setting(NamedTuple):
    """Data, model and schedule of models that are compared."""
    data: str = 'Fashion-MNIST'  # 'Fashion-MNIST', 'stamps' (photographed objects), or one of photographs.SOURCES
    # height and width of an object in pixels, or several, equally often; None: plain Fashion-MNIST, 28 x 28
    size: Union[int, Tuple[int, ...], None] = 14
    canvas: int = 32  # height and width of a canvas, or of a photograph as the model sees it, in pixels
    classes: int = 10
    images: int = 2000  # of training
    epochs: int = 40
    alpha: float = 1.  # of CutMix
    model: str = 'cnn'  # one of training.MODELS
    mode: str = 'elem'  # mode of the mixing: 'batch', 'pair' or 'elem'
    recipe: str = 'adamw'  # one of training.RECIPES
    test_images: int = 5000
    stored: int = 32  # height and width of the photographs of which training takes crops

    @property
    def is_real(self) -> bool:
        """Whether the images are photographs as they are published, nothing pasted."""
        return self.data in SOURCES


class Splits(NamedTuple):
    """Images to train on, and images to test on."""
    train: ImageSet
    test: ImageSet


# a common model, as long as a GPU that is there for minutes allows
_RESNET18 = Setting(images=5000, epochs=60, model='resnet18', mode='pair', recipe='sgd', test_images=10000)
# as deep, in ten minutes on one core
_NARROW = _RESNET18._replace(images=1500, model='resnet18-narrow', test_images=3000)
# photographs as they are published; few of them and many epochs, so that mixing helps on the minutes of a CPU
_CIFAR = Setting(
    data='cifar100', size=None, classes=100, images=3000, epochs=80, model='wide', mode='pair', recipe='cifar',
    test_images=10000)
SETTINGS = {
    'placed-14': Setting(),
    # 0.7 M parameters, ten minutes on one core
    'placed-14-wide': Setting(images=4000, epochs=60, model='wide', mode='pair', recipe='sgd'),
    'resnet18': _RESNET18,
    'resnet18-narrow': _NARROW,
    'resnet18-narrow-sizes': _NARROW._replace(size=(10, 15, 22)),
    'resnet18-sizes': _RESNET18._replace(size=(10, 15, 22)),
    'resnet18-alpha0.2': _RESNET18._replace(alpha=0.2),
    'resnet18-plain': _RESNET18._replace(size=None, images=60000, epochs=10),
    # 0.2 M parameters and a class token
    'placed-sizes-vit': Setting(size=(10, 15, 22), images=4000, model='vit', mode='pair', recipe='vit'),
    'lite0-photographs': Setting(
        data='stamps', size=(32, 48, 64), canvas=128, classes=231, images=4620, epochs=6, model='lite0', mode='pair'),
    'cifar100': _CIFAR,
    'cifar100-2000': _CIFAR._replace(images=2000),
    'cifar100-vit': _CIFAR._replace(images=2000, epochs=120, model='vit', recipe='vit'),
    'caltech101-vit': _CIFAR._replace(
        data='caltech101', classes=101, images=3030, model='vit', recipe='vit', test_images=3030),
    'caltech101': Setting(
        data='caltech101', size=None, canvas=112, classes=101, images=3030, epochs=8, model='lite0', mode='pair',
        recipe='fine-tuning', test_images=3030, stored=126),
}


@lru_cache(1)  # the runs of a seed follow each other
def make_data(setting: Setting, seed: int, data_dir: Optional[Path] = None) -> Splits:
    """Return training and test images of a setting; photographs are looked for in `data_dir`.

    Test images of stamps are new canvases: each photograph is a class, and the backgrounds are of the same photographs.
    """
    if setting.is_real:
        return _photographs(setting, data_dir)
    if setting.data == 'stamps':
        train = test = load_stamps()
    else:
        train, test = load_objects(DEBIAN_FOLDER)[2:]
    return Splits(
        _placed(setting, train, setting.images, 2 * seed), _placed(setting, test, setting.test_images, 2 * seed + 1))


@lru_cache(1)  # of all seeds
def _photographs(setting: Setting, data_dir: Optional[Path]) -> Splits:
    return Splits(*load_photographs(
        setting.data, data_dir, setting.images, setting.test_images, setting.canvas, setting.stored))


def _placed(setting: Setting, objects: Union[Objects, Stamps], count: int, seed: int) -> ImageSet:
    """Return `count` canvases; of several sizes, as many canvases have each size."""
    if setting.size is None:
        return to_image_set(plain(objects, count))
    sizes = setting.size if isinstance(setting.size, tuple) else (setting.size,)
    make = place_stamps if isinstance(objects, Stamps) else place
    parts, step = [], len(sizes)
    for i, size in enumerate(sizes):
        # every step-th object; of stamps all, since each is a class
        own = objects if isinstance(objects, Stamps) else Objects(*(array[i::step] for array in objects))
        parts.append(make(own, len(range(i, count, step)), size=size, canvas=setting.canvas, seed=step * seed + i))
    return to_image_set(PlacedImages(*(np.concatenate(arrays) for arrays in zip(*parts))))
