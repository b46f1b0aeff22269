"""The problem in one picture: mixed images with CutMix's label, the corrected one, and what is to be seen in truth.

    python -m benchmarks.problem CHECKPOINT [--setting placed-emoji] [--seed 0] [--out docs/problem.png]

The checkpoint is that of an arm 'evidence' of the comparison. Shown are mixed test images of two classes at fixed
percentiles of the distance between area and truth, from nearly the largest to the median. Things are those with names
of one word, and their drawings Noto Emoji (Apache-2.0) and Fluent Emoji (MIT), whose notices are in docs/NOTICE.md.
"""
import argparse
from pathlib import Path
from typing import List, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from timm_sumix import MixedTarget, correct

from .common.figures import hide_ticks, plt
from .data.drawn import in_turn
from .data.emoji import load_drawings, split_drawings
from .data.settings import SETTINGS, make_data
from .labels.truth import comparable, true_shares
from .training import MODELS, create_model, cutmix

PERCENTILES = (99, 90, 75, 50)
ARTISTS = ('noto', 'fluent')
COLOURS = ('#1f5fa8', '#e0a13a')


class Mixtures(NamedTuple):
    """Mixed test images [N, 3, S, S], their target, true shares [N], and names of their two classes."""
    mixed: torch.Tensor
    target: MixedTarget
    true: torch.Tensor
    names: List[str]


def make_mixtures(setting_name: str, seed: int) -> Mixtures:
    """Mix test images by the two artists."""
    setting = SETTINGS[setting_name]
    test, drawings = make_data(setting, seed).test, load_drawings(classes=setting.classes)
    pairs = split_drawings(drawings).train
    things, artists = pairs[in_turn(len(test.labels), len(pairs))].T
    one_word = np.array(['-' not in name for name in drawings.things])
    usable = np.isin(artists, [drawings.artists.index(artist) for artist in ARTISTS]) & one_word[things]
    rows = torch.from_numpy(usable).nonzero().squeeze(1)
    torch.manual_seed(seed)
    rows = rows[torch.randperm(len(rows))]
    mixed, target = cutmix(setting.classes, mode='pair')(test.images[rows], test.labels[rows])
    return Mixtures(mixed, target, true_shares(test.masks[rows], target), list(drawings.things))


def choose(mixtures: Mixtures) -> List[int]:
    """Return the positions of the mixtures at the percentiles."""
    usable = comparable(mixtures.target, mixtures.true).nonzero().squeeze(1)
    order = usable[(mixtures.target.lam - mixtures.true)[usable].abs().argsort()]
    return [int(order[round(percentile / 100 * (len(order) - 1))]) for percentile in PERCENTILES]


def draw(mixtures: Mixtures, corrected: torch.Tensor, path: Path) -> None:
    """Save the chosen mixtures, each over three bars."""
    target, chosen = mixtures.target, choose(mixtures)
    figure, axes = plt.subplots(2, len(chosen), figsize=(11, 3.9), height_ratios=(3, 1))
    for column, i in enumerate(chosen):
        picture, bars = axes[:, column]
        image = F.interpolate(mixtures.mixed[i][None], scale_factor=8, mode='bicubic')[0]
        picture.imshow((image.permute(1, 2, 0) / 2 + 0.5).clamp(0, 1).numpy())
        hide_ticks(picture)
        picture.set_anchor('S')  # down to its bars
        names = [mixtures.names[labels[i]] for labels in (target.labels, target.partner_labels)]
        picture.set_title(f'{names[0]} or {names[1]}?', fontsize=12)
        _draw_bars(bars, [target.lam[i], corrected[i], mixtures.true[i]], names, first=column == 0)
    figure.subplots_adjust(left=0.1, right=0.99, top=0.93, bottom=0.01, hspace=0.03, wspace=0.12)
    figure.savefig(path, dpi=100)


def _draw_bars(axis: plt.Axes, shares: List[torch.Tensor], names: List[str], first: bool) -> None:
    for height, share in enumerate(float(share) for share in shares):
        axis.barh(height, share, 0.74, color=COLOURS[0])
        axis.barh(height, 1 - share, 0.74, left=share, color=COLOURS[1])
        for text, at, side, part in ((names[0], 0.02, 'left', share), (names[1], 0.98, 'right', 1 - share)):
            if part >= 0.1:  # there is room for the number; for the name too, from two fifths
                name = f' {text}' if part >= 0.4 else ''
                axis.text(at, height, f'{100 * part:.0f} %{name}', ha=side, va='center', fontsize=9, color='white')
    axis.set(xlim=(0, 1), ylim=(2.5, -0.5), xticks=[], yticks=[])
    axis.set_frame_on(False)
    if first:
        axis.set_yticks(range(3), ['CutMix says', 'SUMix says', 'in truth'], fontsize=10)
        axis.tick_params(length=0)


def main() -> None:
    """Ask a model about mixed images, and draw some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', type=Path, metavar='CHECKPOINT')
    emoji = [name for name, setting in SETTINGS.items() if setting.data == 'emoji']
    parser.add_argument('--setting', choices=emoji, default='placed-emoji')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('docs') / 'problem.png')
    args = parser.parse_args()
    setting = SETTINGS[args.setting]
    model = create_model(
        setting.classes, **MODELS[setting.model], checkpoint_path=str(args.checkpoint)).eval()
    mixtures = make_mixtures(args.setting, args.seed)
    draw(mixtures, correct(model, mixtures.mixed, mixtures.target), args.out)


if __name__ == '__main__':
    main()
