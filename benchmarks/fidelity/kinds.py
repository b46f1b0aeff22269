"""What labels are compared on: a network, images whose truth is known, and how they are mixed.

Photographs: an EfficientNet-Lite0 with its published ImageNet weights (benchmarks/data/lite0.py) is asked about stamps
of Tux Paint on photographs (benchmarks/data/stamps.py); an object's class is what it takes the unmixed image for. Or it
is asked about Tiny-ImageNet's validation pictures, enlarged, whose truth is by their published boxes. A box is a coarse
truth: it holds background too, and is a rectangle as the patch is, which flatters the area.
Canvases: a small network is trained on objects of Fashion-MNIST on clutter, by CutMix's labels, and asked about others.
"""
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

import torch
from timm.data import ImageNetInfo

from timm_sumix import SUMixMixup
from timm_sumix.correction import visible_evidence

from ..common.scores import classification
from ..data.lite0 import load_lite0
from ..data.objects import DEBIAN_FOLDER, load_objects
from ..data.photographs import find_source, load_photographs
from ..data.placed import ImageSet, place, to_image_set
from ..data.stamps import CLOSE, SCENES, load_stamps, place_stamps
from ..labels.labellers import LABELLERS, Labeller, attention_labellers
from ..training import LEARNING_RATES, MODELS, create_model, cutmix, predict, train

CANVAS, CLASSES = 32, 10  # pixels a side of a canvas, and classes of its objects
TINY = 'tiny-imagenet'
TINY_SIZE = 160  # pixels a side, enlarged from 64
TINY_PICTURES = 5  # of each class
SPREAD = 0.25  # of the central Gaussian, as a share of the image's side


class Asked(NamedTuple):
    """A network, the images that it is asked about, how they are mixed, and labellers beside the library's ratios."""
    model: torch.nn.Module
    data: ImageSet
    mixup: SUMixMixup
    labellers: Dict[str, Labeller] = {}
    facts: Dict[str, Any] = {}


class Photographs(NamedTuple):
    """What the images hold."""
    size: int = 112  # longer side of an object in pixels, of 224
    anywhere: bool = False  # whether an object's middle may lie anywhere, so that the border cuts it
    background: Tuple[float, float] = CLOSE  # range of the background's part of its photograph's shorter side
    mixing: Dict[str, Any] = {}  # arguments of cutmix()


PHOTOGRAPHS = {
    '80': Photographs(80),
    '112': Photographs(),
    '160': Photographs(160),
    '224': Photographs(224),
    '112, anywhere': Photographs(anywhere=True),
    '112, on whole scenes': Photographs(background=SCENES),
    '112, mode elem': Photographs(mixing={'mode': 'elem'}),
    '112, mode batch': Photographs(mixing={'mode': 'batch'}),
    '112, resizemix': Photographs(mixing={'policy': 'resizemix'}),
}


class Canvases(NamedTuple):
    """What the canvases hold: the share that an object's box takes, in (0, 1], and the probe, of training.MODELS."""
    share: float = 0.2
    probe: str = 'cnn'


TRANSFORMERS = {
    'vit': Canvases(probe='vit'), 'vit, share 0.6': Canvases(0.6, 'vit'), 'vit, 12 blocks': Canvases(probe='vit12')}


def central(model, mixed, target, masks):
    """Return shares by a fixed Gaussian around the middle in the evidence's place, 7 x 7: objects tend to lie there."""
    places = torch.linspace(-0.5 + 1 / 14, 0.5 - 1 / 14, 7)
    side = torch.exp(-places.square() / (2 * SPREAD ** 2))
    first, second = visible_evidence((side[:, None] * side).expand(len(target), 7, 7), target)
    return first / (first + second)


def ask_of_photographs(kind: Photographs, images: int, seed: int) -> Asked:
    """Return the network with published weights, and photographed objects."""
    model = load_lite0()
    data = to_image_set(place_stamps(
        load_stamps(), images, kind.size, seed, anywhere=kind.anywhere, background=kind.background))
    data = data._replace(labels=predict(model, data.images).argmax(1))
    mixup = cutmix(1000, **{'mode': 'pair', 'cutmix_alpha': 1., **kind.mixing})
    return Asked(model, data, mixup, {
        'central Gaussian': central, 'evidence of the mixture': LABELLERS['evidence of the mixture']})


def ask_of_tiny(data_dir: Optional[Path]) -> Asked:
    """Return the network with published weights, and pictures with boxes, by the classes of ImageNet-1k."""
    names = sorted((find_source(TINY, data_dir) / 'wnids.txt').read_text().split())
    numbers = {name: number for number, name in enumerate(ImageNetInfo().label_names())}
    _, data = load_photographs(TINY, data_dir, 0, TINY_PICTURES * len(names), TINY_SIZE, TINY_SIZE)
    classes = torch.tensor([numbers.get(name, -1) for name in names])[data.labels]
    here = classes >= 0  # not all of its classes are among the thousand
    return Asked(load_lite0(), ImageSet(data.images[here], data.masks[here], classes[here]), cutmix(1000, mode='pair'))


def canvases(name: str) -> Canvases:
    """Return one of TRANSFORMERS, or canvases for a CNN by 'share S'."""
    return TRANSFORMERS.get(name) or Canvases(float(name.removeprefix('share ')))


def make_canvases(share: float, images: int, test_images: int, seed: int) -> Tuple[ImageSet, ...]:
    """Return training and test canvases."""
    splits, size = load_objects(DEBIAN_FOLDER)[2:], round(CANVAS * share ** 0.5)
    return tuple(
        to_image_set(place(objects, count, CANVAS, size, 2 * seed + part))
        for part, (objects, count) in enumerate(zip(splits, (images, test_images))))


def ask_of_canvases(kind: Canvases, images: int, epochs: int, test_images: int, seed: int) -> Asked:
    """Train a probe model with CutMix, its labels by area, and return it with its rivals and test canvases."""
    data, test = make_canvases(kind.share, images, test_images, seed)
    torch.manual_seed(seed)
    model = create_model(CLASSES, **MODELS[kind.probe])
    train(
        model, data, cutmix(CLASSES), epochs=epochs, seed=seed, lr=LEARNING_RATES[kind.probe],
        task_kwargs={'ratio': 'area', 'gamma': 0.})
    rivals = {'snapmix': LABELLERS['snapmix']} if kind.probe == 'cnn' else attention_labellers(model)
    rivals['evidence of the mixture'] = LABELLERS['evidence of the mixture']
    facts = {'top1': classification(predict(model, test.images), test.labels)['top1']}
    return Asked(model, test, cutmix(CLASSES, mode='pair'), rivals, facts)
