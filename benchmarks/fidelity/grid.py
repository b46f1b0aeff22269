"""The formula's weights and the power of the evidence, each label's squared error over that of the area.

Labels of photographs are those of an EfficientNet-Lite0 with published ImageNet weights: of Tiny-ImageNet's validation
pictures, enlarged, whose truth is by their published boxes, and of photographed objects of several sizes. A box is a
coarse truth: it holds background too, and is a rectangle as the patch is, which flatters the area. Labels of drawn
canvases are those of a small network that is trained on them, one for each size.
"""
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from timm.data import ImageNetInfo

from timm_sumix.correction.evidence import POWER
from timm_sumix.correction.formula import WEIGHTS, Formula

from ..data.lite0 import load_lite0
from ..data.photographs import find_source, load_photographs
from ..data.placed import ImageSet
from ..labels.truth import comparable
from ..training import cutmix
from .photographs import photographs_of
from .probe import Answers, ask_probe, train_probe
from .scenes import CANVAS, Scene, make_data

TINY = 'tiny-imagenet'
TINY_SIZE = 160  # pixels a side, enlarged from 64
TINY_PICTURES = 5  # of each class
PHOTOGRAPHS = ('80', '112', '160', '224', '112, anywhere')  # of fidelity.photographs
DRAWN = {f'drawn {size}': size for size in (10, 14, 22, 32)}  # pixels a side of an object on a canvas of 32
KINDS = (TINY, *PHOTOGRAPHS, *DRAWN)

GRID_W, GRID_S, GRID_K = (0., 0.25, 0.5, 0.75, 1.), (0., 0.5, 1., 2., 4.), (0., 1.)
POWERS = (1., 1.5, 2., 3.)  # beside that of the library


class Label(NamedTuple):
    """One label: weights of the formula, the evidence's power, and 1 or 2 passes."""
    weights: Tuple[float, float, float]
    power: float = POWER
    passes: int = 1


def labels() -> List[Label]:
    """Return the labels that are compared: names first, then the grid, powers, and two passes."""
    grid = [(w, s, k) for w in GRID_W for s in GRID_S for k in GRID_K]
    powers = [Label((w, s, 0.), power) for power in POWERS for w in GRID_W if w > 0 for s in (0., 1.)]
    two = [Label(weights, passes=2) for weights in (*WEIGHTS.values(), (1., 0., 0.))]
    return list(dict.fromkeys([*map(Label, (*WEIGHTS.values(), *grid)), *powers, *two]))


def score(batches: List[Answers]) -> Dict[str, Any]:
    """Return how far each label is from the truth.

    Returns:
        'pairs': number of mixed images; 'area': the area's mean squared error; 'over_area': for each of labels(), in
        their order, its mean squared error over the area's.
    """
    use = torch.cat([comparable(batch.target, batch.true) for batch in batches])
    true = torch.cat([batch.true for batch in batches])[use]

    def error(label: Label) -> float:
        ratio = Formula(*label.weights)
        shares = [ratio(batch.mixed, _unmixed(batch, label), batch.target) for batch in batches]
        return (torch.cat(shares)[use] - true).square().mean().item()

    area = error(Label((0., 0., 0.)))
    return {'pairs': len(true), 'area': area, 'over_area': [error(label) / area for label in labels()]}


def _unmixed(batch: Answers, label: Label):
    output = batch.unmixed if label.passes == 1 else batch.original
    return output._replace(evidence=output.evidence ** (label.power / POWER))


def ask(kind: str, data_dir: Optional[str], images: int, train_images: int, epochs: int, seed: int) -> Dict[str, Any]:
    """Mix pictures of a kind, ask the network, and return the scores.

    Args:
        kind: One of KINDS.
        data_dir: Folder that holds Tiny-ImageNet, for TINY.
        images: Number of pictures of the other kinds.
        train_images: Number of canvases that a small network is trained on.
        epochs: Epochs of that training.
        seed: Seed of pictures, training and mixing.
    """
    if kind in DRAWN:
        scene = Scene((DRAWN[kind] / CANVAS) ** 2)
        train, data = make_data(scene, train_images, images, seed)
        model, _ = train_probe(scene, train, data, epochs, seed)
        mixup = cutmix(scene.classes, mode='pair')
    else:
        model, mixup = load_lite0(), cutmix(1000, mode='pair')
        data = load_tiny(data_dir) if kind == TINY else photographs_of(model, kind, images, seed)
    batches, _ = ask_probe(model, data, mixup, seed, {})
    return {'images': kind, **score(batches)}


def load_tiny(data_dir: Optional[str]) -> ImageSet:
    """Return validation pictures of Tiny-ImageNet with their boxes, enlarged, by the classes of ImageNet-1k."""
    names = sorted((find_source(TINY, data_dir) / 'wnids.txt').read_text().split())
    _, data = load_photographs(TINY, data_dir, 0, TINY_PICTURES * len(names), TINY_SIZE, TINY_SIZE)
    order = {name: index for index, name in enumerate(ImageNetInfo().label_names())}
    classes = torch.tensor([order.get(name, -1) for name in names])[data.labels]
    here = classes >= 0  # not all of its classes are among the thousand
    return ImageSet(data.images[here], data.masks[here], classes[here])


def combine(results: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Return the scores of all kinds, a row for each label: {'images': {kind: ...}, 'rows': [...]}."""
    return {
        'images': {own['images']: {'pairs': own['pairs'], 'area': own['area']} for own in results},
        'rows': [
            {'weights': '{:g} {:g} {:g}'.format(*label.weights), 'power': label.power, 'passes': label.passes,
             'over_area': {own['images']: round(own['over_area'][i], 4) for own in results}}
            for i, label in enumerate(labels())]}
