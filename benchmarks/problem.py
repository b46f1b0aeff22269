"""The problem in one picture: mixed photographs with CutMix's label, this library's, and what is to be seen in truth.

    python -m benchmarks.problem [--seed 0] [--out docs/problem.png]

The photographs are scikit-image's, free of copyright (CC0); the masks of their objects are drawn here, as polygons.
CutMix draws the boxes, and a rule chooses which are shown. The corrected labels are by an EfficientNet-Lite0 with its
published ImageNet weights (data/lite0.py); an image's class is what that network takes it for. The demo draws it too.
"""
import argparse
from functools import cache
from pathlib import Path
from typing import List, NamedTuple, Sequence, Tuple

import skimage
import torch
from PIL import Image, ImageDraw
from torchvision.transforms.functional import to_tensor

from timm_sumix import MixedTarget, SUMixOptions, correct
from timm_sumix.mixing.policies import create_policy
from timm_sumix.region import Mixing

from .common.figures import plt
from .data.lite0 import load_lite0

SIDE = 224
MEAN, STD = 127 / 255, 128 / 255  # what the network was trained with
COLOURS = ('#1f5fa8', '#c77d0a')
DRAWN, EVERY = 50, 10  # boxes that are drawn at random, and which of them are shown


class Photograph(NamedTuple):
    """A file of scikit-image, the square that is cut out (left, top, side), and the object's outline, in pixels."""
    file: str
    square: Tuple[int, int, int]
    outline: List[Tuple[int, int]]


PHOTOGRAPHS = {
    'coffee': Photograph('coffee.png', (80, 0, 400), [
        (175, 90), (210, 45), (290, 15), (370, 45), (410, 95), (440, 140), (478, 210), (470, 280), (420, 340),
        (350, 380), (270, 390), (190, 370), (120, 320), (78, 240), (90, 165), (140, 110)]),
    'rocket': Photograph('rocket.jpg', (109, 0, 427), [
        (322, 126), (332, 150), (332, 408), (312, 408), (312, 150)]),
    'cat': Photograph('chelsea.png', (60, 0, 300), [
        (36, 16), (60, 0), (400, 0), (365, 60), (365, 160), (330, 230), (300, 290), (200, 300), (0, 300), (0, 170),
        (40, 110)]),
    'camera': Photograph('camera.png', (0, 0, 512), [
        (165, 80), (200, 62), (265, 90), (275, 140), (325, 140), (325, 200), (300, 250), (310, 310), (395, 510),
        (235, 510), (285, 330), (240, 300), (190, 360), (150, 420), (150, 512), (0, 512), (0, 200), (60, 130)]),
    'motorcycle': Photograph('motorcycle_left.png', (130, 0, 500), [
        (100, 240), (141, 146), (227, 175), (356, 132), (492, 75), (564, 118), (557, 175), (643, 290), (686, 405),
        (628, 455), (542, 390), (428, 376), (334, 419), (198, 405), (126, 347)]),
}


@cache
def load(name: str) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return the square of a photograph [3, SIDE, SIDE] in [0, 1], and its object's mask [1, SIDE, SIDE]."""
    photograph = PHOTOGRAPHS[name]
    image = Image.open(Path(skimage.__file__).parent / 'data' / photograph.file).convert('RGB')
    mask = Image.new('L', image.size)
    ImageDraw.Draw(mask).polygon(photograph.outline, fill=255)
    left, top, side = photograph.square
    image, mask = (
        picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        for picture in (image, mask))
    return to_tensor(image), to_tensor(mask)


def mix(
        first: str, second: str, box: Tuple[int, int, int, int], labels: Sequence[int] = (0, 1),
) -> Tuple[torch.Tensor, MixedTarget, float]:
    """Return a pair of mixtures [2, 3, SIDE, SIDE] in [0, 1], their target by area, and the first one's true share."""
    images, objects = (torch.stack(both) for both in zip(*(load(name) for name in (first, second))))
    mask = torch.ones(2, 1, SIDE, SIDE)
    top, bottom, left, right = box
    mask[..., top:bottom, left:right] = 0.
    by_area, true = (
        MixedTarget(
            torch.tensor(labels), mask.mean((1, 2, 3)), 1000, object_mask=known,
            mask=Mixing(len(mask), mask, complementary=True))
        for known in (None, objects))
    return torch.lerp(images.flip(0), images, mask), by_area, true.lam[0].item()


class Labelled(NamedTuple):
    """A mixture [3, SIDE, SIDE] of two named photographs; the first one's share by each label, the truth last."""
    names: Tuple[str, str]
    image: torch.Tensor
    shares: List[float]


@torch.no_grad()
def label(
        model: torch.nn.Module, first: str, second: str, box: Tuple[int, int, int, int], ratios: Sequence[str],
) -> Labelled:
    """Return a mixture with its share by area, by each ratio, and in truth."""
    images = torch.stack([load(name)[0] for name in (first, second)])
    mixed, target, true = mix(first, second, box, model((images - MEAN) / STD).argmax(1).tolist())
    corrected = [correct(model, (mixed - MEAN) / STD, target, SUMixOptions(ratio))[0].item() for ratio in ratios]
    return Labelled((first, second), mixed[0], [target.lam[0].item(), *corrected, true])


def label_random(model: torch.nn.Module, ratios: Sequence[str], seed: int) -> List[Labelled]:
    """Return mixtures by CutMix of pairs of photographs, of which an object is visible, the area's worst first."""
    torch.manual_seed(seed)
    policy, blank, found = create_policy('cutmix', alpha=1.), torch.zeros(1, 3, SIDE, SIDE), []
    while len(found) < DRAWN:
        first, second = (list(PHOTOGRAPHS)[i] for i in torch.randperm(len(PHOTOGRAPHS))[:2].tolist())
        (top, left), (bottom, right) = (edge[0].int().tolist() for edge in policy.draw(1, blank)[:2])
        labelled = label(model, first, second, (top, bottom, left, right), ratios)
        if labelled.shares[-1] != labelled.shares[0]:  # the area stands in where neither object is visible
            found.append(labelled)
    return sorted(found, key=lambda each: -abs(each.shares[0] - each.shares[-1]))


def draw(axes: Sequence[plt.Axes], labelled: Labelled) -> None:
    """Draw a mixture in the first axes, and bars of its shares in the second."""
    (picture, bars), names = axes, labelled.names
    picture.imshow(labelled.image.permute(1, 2, 0).numpy())
    picture.set(xticks=[], yticks=[])
    picture.set_title(' or '.join(names) + '?', fontsize=15)
    for height, share in enumerate(labelled.shares):
        bars.barh(height, share, 0.8, color=COLOURS[0])
        bars.barh(height, 1 - share, 0.8, left=share, color=COLOURS[1])
        for name, at, side, part in ((names[0], 0.02, 'left', share), (names[1], 0.98, 'right', 1 - share)):
            if part >= 0.12:  # there is room for the number; for the name too, from half
                text = f'{100 * part:.0f} % {name}' if part >= 0.5 else f'{100 * part:.0f} %'
                bars.text(at, height, text, ha=side, va='center', fontsize=12, color='white')
    bars.set(xlim=(0, 1), ylim=(len(labelled.shares) - 0.5, -0.5), xticks=[], yticks=[])
    bars.set_frame_on(False)


def draw_all(mixtures: Sequence[Labelled], rows: Sequence[str], path: Path, caption: str) -> None:
    """Save a picture of labelled mixtures, with the names of their kinds of label and a line below."""
    bars = 0.38 * len(rows)
    figure, axes = plt.subplots(
        2, len(mixtures), figsize=(3.125 * len(mixtures), 3.45 + bars), height_ratios=(3, bars), squeeze=False)
    for column, labelled in enumerate(mixtures):
        draw(axes[:, column], labelled)
    axes[1, 0].set_yticks(range(len(rows)), rows, fontsize=13)
    axes[1, 0].tick_params(length=0)
    figure.text(0.5, 0.012, caption, ha='center', fontsize=12)
    figure.subplots_adjust(left=0.155, right=0.995, top=0.92, bottom=0.065, hspace=0.04, wspace=0.06)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_problem(path: Path, seed: int = 0) -> None:
    """Save the picture, with labels by area, by the default, and in truth."""
    found = label_random(load_lite0(), (SUMixOptions().ratio,), seed)
    area, default = (sum(abs(each.shares[i] - each.shares[-1]) for each in found) / DRAWN for i in range(2))
    caption = (
        f'{DRAWN} random boxes, sorted by the error of the area: every {EVERY}th, the worst first. '
        f'Mean error of all {DRAWN}: area {area:.2f}, SUMix {default:.2f}')
    draw_all(found[::EVERY], ('by area: CutMix', 'recognised: SUMix', 'visible: true'), path, caption)


def main() -> None:
    """Mix, ask the network, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('docs') / 'problem.png')
    parser.add_argument('--seed', type=int, default=0, help='seed of the boxes (default: 0)')
    args = parser.parse_args()
    draw_problem(args.out, args.seed)


if __name__ == '__main__':
    main()
