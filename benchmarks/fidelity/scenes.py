"""The scenes on which labels are compared with the truth."""
from typing import NamedTuple, Tuple

from ..data import settings
from ..data.objects import DEBIAN_FOLDER, load_digits_objects, load_objects
from ..data.placed import ImageSet, place, to_image_set

CANVAS = 32  # height and width in pixels


class Scene(NamedTuple):
    """What the canvases hold, and which model is asked.

    Args:
        share: Share of the canvas that an object's box takes, in (0, 1].
        copies: Number of objects on each canvas.
        clutter: What the background is made of, 'pieces' or 'photographs'.
        data: 'Fashion-MNIST', 'digits', or 'emoji', of several sizes and on photographs whatever share
            and clutter say.
        probe: The probe model, 'cnn' or 'vit'.
        classes: Number of classes.
    """
    share: float = 0.2
    copies: int = 1
    clutter: str = 'pieces'
    data: str = 'Fashion-MNIST'
    probe: str = 'cnn'
    classes: int = 10


SCENES = {
    'several': Scene(share=0.1, copies=3),
    'on photographs': Scene(clutter='photographs'),
    'digits': Scene(data='digits'),
    'vit': Scene(probe='vit'),
    'emoji': Scene(data='emoji', classes=20),
}


def make_data(scene: Scene, images: int, test_images: int, seed: int) -> Tuple[ImageSet, ImageSet]:
    """Return training and test images of a scene."""
    if scene.data == 'emoji':
        setting = settings.SETTINGS['placed-emoji']._replace(images=images, classes=scene.classes)
        data = settings.make_data(setting, seed)
        return data.train, ImageSet(*(part[:test_images] for part in data.test))
    splits = (load_objects(DEBIAN_FOLDER) if scene.data == 'Fashion-MNIST' else load_digits_objects())[2:]
    size = round(CANVAS * scene.share ** 0.5)
    return tuple(
        to_image_set(place(objects, count, CANVAS, size, 2 * seed + part, scene.copies, scene.clutter))
        for part, (objects, count) in enumerate(zip(splits, (images, test_images))))
