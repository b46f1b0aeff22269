"""Labels of photographs by a network trained on ImageNet: photographed objects, whose masks are known, on photographs.

The network is an EfficientNet-Lite0 with its published weights (benchmarks/data/lite0.py), the objects are stamps of
Tux Paint (benchmarks/data/stamps.py). An object's class is what the network takes its own, unmixed image for.
"""
from typing import Any, Dict, List, NamedTuple, Tuple

import torch

from timm_sumix.correction import visible_evidence

from ..data.lite0 import load_lite0
from ..data.placed import ImageSet, to_image_set
from ..data.stamps import CLOSE, SCENES, load_stamps, place_stamps
from ..labels.labellers import LABELLERS
from ..training import cutmix, predict
from .compare import compare, usable
from .probe import ask_probe

SPREAD = 0.25  # of the central Gaussian, as a share of the image's side


class Photographs(NamedTuple):
    """What the images hold.

    Args:
        size: Longer side of an object in pixels, of 224.
        anywhere: Whether an object's middle may lie anywhere, so that the border cuts it.
        background: Range of the background's part of its photograph's shorter side.
        mixing: Arguments of cutmix().
    """
    size: int = 112
    anywhere: bool = False
    background: Tuple[float, float] = CLOSE
    mixing: Dict[str, Any] = {}


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


def central(model, mixed, target, masks):
    """Return shares by a fixed Gaussian around the middle in the evidence's place, 7 x 7: objects tend to lie there."""
    places = torch.linspace(-0.5 + 1 / 14, 0.5 - 1 / 14, 7)
    side = torch.exp(-places.square() / (2 * SPREAD ** 2))
    first, second = visible_evidence((side[:, None] * side).expand(len(target), 7, 7), target)
    return first / (first + second)


def photographs_of(model: torch.nn.Module, name: str, images: int, seed: int) -> ImageSet:
    """Return images of one of PHOTOGRAPHS; the class of each is what the model takes it for."""
    kind = PHOTOGRAPHS[name]
    data = to_image_set(place_stamps(
        load_stamps(), images, kind.size, seed, anywhere=kind.anywhere, background=kind.background))
    return ImageSet(data.images, data.masks, predict(model, data.images).argmax(1))


def ask_about_photographs(name: str, images: int, seed: int) -> List[Dict[str, Any]]:
    """Ask the network about one kind of images, and return rows of scores.

    Args:
        name: One of PHOTOGRAPHS.
        images: Number of images.
        seed: Seed of images and mixing.
    """
    kind, model = PHOTOGRAPHS[name], load_lite0()
    data = photographs_of(model, name, images, seed)
    mixup = cutmix(1000, **{'mode': 'pair', 'cutmix_alpha': 1., **kind.mixing})
    labellers = {'central Gaussian': central, 'evidence of the mixture': LABELLERS['evidence of the mixture']}
    batches, shares = ask_probe(model, data, mixup, seed, labellers)
    pairs = int(usable(batches).sum())
    return [
        {'scene': 'photographs', 'seed': seed, 'part': 'photographs', 'images': name, 'pairs': pairs, **row}
        for row in compare(batches, shares)]
