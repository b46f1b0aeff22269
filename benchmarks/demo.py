"""The product in a few minutes: models without mixing, with CutMix, its labels corrected, and true, by known masks.

python -m benchmarks.demo [--data-dir FASHION_MNIST] [--out .demo] [--seed 0]

All runs go through the launcher, with the same seed, data and number of epochs, each on one core at the same time.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from timm_sumix import MixedTarget, correct

from .common.figures import hide_ticks, plt
from .common.markdown import table
from .common.record import describe_run, wall_time
from .common.results import ROOT, write_result
from .common.scores import agreement, classification
from .data.objects import load_objects
from .data.placed import PlacedImages, place, to_image_set
from .labels.truth import comparable, evenly_spaced, true_shares
from .training import SMALL_MODEL, create_model, cutmix, predict

CUTMIX = '--cutmix 1.0 --mixup-mode pair'
ARMS = {  # SUMix: the library's default
    'no mixing': '', 'CutMix': CUTMIX, 'CutMix + SUMix': f'{CUTMIX} --sumix',
    'CutMix + masks of the objects': f'{CUTMIX} --sumix --sumix-masks {{masks}}'}
LABELS = {'CutMix': 'area', 'CutMix + SUMix': 'corrected'}  # that the arms are trained on


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-dir', help="folder of Fashion-MNIST's four files (default: Debian's, else digits)")
    parser.add_argument('--out', default='.demo', type=Path, help='output folder (default: .demo)')
    parser.add_argument('--train-images', default=5000, type=int, help='training images (default: 5000)')
    parser.add_argument('--test-images', default=2000, type=int, help='test images (default: 2000)')
    parser.add_argument('--epochs', default=10, type=int, help='epochs (default: 10)')
    parser.add_argument('--seed', default=0, type=int, help='seed of data and training (default: 0)')
    return parser.parse_args()


def make_canvases(args: argparse.Namespace, console: Console) -> Tuple[str, Tuple[str, ...], List[PlacedImages]]:
    """Return the name of the data, those of its classes, and training and test canvases."""
    name, class_names, *objects = load_objects(args.data_dir)
    if name == 'digits':
        console.print(
            "Fashion-MNIST is not at hand: using scikit-learn's digits, of which there are few. For Fashion-MNIST, "
            "install Debian's package dataset-fashion-mnist or give --data-dir.")
    return name, class_names, [
        place(own, count, seed=args.seed + i)
        for i, (own, count) in enumerate(zip(objects, (args.train_images, args.test_images)))]


def write_image_folder(pixels: np.ndarray, labels: np.ndarray, class_names: Tuple[str, ...], root: Path) -> None:
    """Write images as PNG files root/<class>/<number>.png, the layout of timm's ImageFolder, and of --sumix-masks."""
    digits = len(str(len(class_names) - 1))
    for label, name in enumerate(class_names):
        folder = root / f'{label:0{digits}d}-{name}'  # sorted by label
        folder.mkdir(parents=True)
        for i in np.flatnonzero(labels == label):
            Image.fromarray(pixels[i]).save(folder / f'{i:05d}.png', compress_level=1)


def train_arms(args: argparse.Namespace, data: Path, classes: int, console: Console) -> Dict[str, float]:
    """Train all arms at once, showing their progress, and return the seconds that each took."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    runs, seconds, start = {}, {}, time.time()
    logs = {arm: args.out / f'{slug(arm)}.log' for arm in ARMS}
    for arm, extra in ARMS.items():
        with open(logs[arm], 'w') as log:
            command = train_command(args, data, classes, arm) + extra.format(masks=args.out / 'masks').split()
            runs[arm] = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        with Progress(*Progress.get_default_columns(), console=console) as progress:
            bars = {arm: progress.add_task(arm, total=args.epochs) for arm in runs}
            while len(seconds) < len(runs):
                time.sleep(0.5)
                for arm in runs.keys() - seconds.keys():
                    log = logs[arm].read_text()
                    progress.update(bars[arm], completed=log.count('Test: '))  # one line an epoch
                    if runs[arm].poll():
                        raise RuntimeError(f'training of {arm} failed:\n' + '\n'.join(log.splitlines()[-20:]))
                    if runs[arm].poll() == 0:
                        seconds[arm] = time.time() - start
    finally:
        for run in runs.values():
            run.kill()
    return seconds


def slug(arm: str) -> str:
    """Return an arm's name as a file name."""
    return re.sub(r'\W+', '-', arm.lower())


def train_command(args: argparse.Namespace, data: Path, classes: int, arm: str) -> List[str]:
    """Return the command that all arms share; a user of timm's train.py would type the same."""
    name, *kwargs = SMALL_MODEL.items()
    model = f'--model {name[1]} --model-kwargs ' + ' '.join(f'{key}={value}' for key, value in kwargs)
    options = (
        f'{model} --num-classes {classes} --input-size 3 32 32 --mean 0.5 0.5 0.5 --std 0.5 0.5 0.5 '
        '--batch-size 128 --no-aug --crop-pct 1.0 --opt adamw --lr 3e-3 --weight-decay 0.05 --warmup-epochs 1 '
        f'--epochs {args.epochs} --smoothing 0 --device cpu --channels-last --workers 1 '
        f'--log-interval 2 --checkpoint-hist 1 --seed {args.seed}')
    return [
        sys.executable, '-m', 'benchmarks.launcher', str(ROOT / 'benchmarks' / 'train.py'), '--data-dir', str(data),
        '--output', str(args.out.resolve()), '--experiment', slug(arm), *options.split(),
    ]


def draw_picture(
        path: Path, class_names: Tuple[str, ...], mixed: torch.Tensor, target: MixedTarget, true: torch.Tensor,
        corrected: torch.Tensor) -> None:
    """Save ten mixed images of [N, 3, S, S], evenly spaced by how far the area is from the truth, with their labels.

    These are by area (target.lam), corrected and true: shares of the first images [N].
    """
    chosen = evenly_spaced(target, true, 10)
    figure, axes = plt.subplots(2, 5, figsize=(12.5, 6.6))
    colours = {'area': '#b3541e', 'corrected': '#1f5fa8', 'true': '#333333'}
    for axis, i in zip(axes.flat, chosen):
        axis.imshow(((mixed[i] * 0.5 + 0.5).permute(1, 2, 0)).clamp(0, 1), interpolation='nearest')
        names = [class_names[labels[i]] for labels in (target.labels, target.partner_labels)]
        axis.set_title(f'{names[0]} + {names[1]}', fontsize=11)
        hide_ticks(axis)
        for line, (label, share) in enumerate(zip(colours, (target.lam[i], corrected[i], true[i]))):
            text = f'{label:<10}{100 * share:4.0f} % {names[0]}'
            axis.text(
                0., -0.1 - 0.105 * line, text, transform=axis.transAxes, fontsize=9.5, family='monospace',
                color=colours[label])
    figure.suptitle(
        "Share of the first image's label: by area (CutMix), corrected (--sumix), and true\n"
        'ten mixed test images, evenly spaced by how far the area is from the truth', fontsize=12)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.87, bottom=0.13, hspace=0.62, wspace=0.16)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Make the data, train all arms, compare them, and save table and picture."""
    args, console = parse_args(), Console()
    console.print(f'Placing {args.train_images + args.test_images} objects on canvases.')
    name, class_names, (train, test) = make_canvases(args, console)
    shutil.rmtree(args.out, ignore_errors=True)
    data = args.out / 'images'
    write_image_folder(train.images, train.labels, class_names, data / 'train')
    write_image_folder(train.masks, train.labels, class_names, args.out / 'masks' / 'train')
    # the script validates each epoch: on a part only, since all models are tested at the end
    write_image_folder(test.images[:500], test.labels[:500], class_names, data / 'validation')

    seconds = train_arms(args, data, len(class_names), console)

    images = to_image_set(test)
    torch.manual_seed(args.seed)
    mixed, target = cutmix(len(class_names), mode='pair')(images.images, images.labels)
    true = true_shares(images.masks, target)
    compared, rows = comparable(target, true), []
    for arm in ARMS:
        model = create_model(len(class_names), checkpoint_path=str(args.out / slug(arm) / 'last.pth.tar')).eval()
        corrected = correct(model, mixed, target)
        shares = {'area': target.lam, 'corrected': corrected}.get(LABELS.get(arm, ''))
        rows.append({
            'training': arm, **classification(predict(model, images.images), images.labels), 'label': LABELS.get(arm),
            **({} if shares is None else agreement(shares[compared], true[compared])), 'seconds': seconds[arm]})
    count = int(compared.sum())
    console.print(table(['training', 'top-1 %', 'NLL', 'ECE %', 'label', 'Spearman', 'mean abs. error'], [
        [row['training'], f'{row["top1"]:.1f}', f'{row["nll"]:.3f}', f'{row["ece"]:.1f}', *(
            ['-'] * 3 if row['label'] is None else [row['label'], f'{row["spearman"]:.3f}', f'{row["mae"]:.3f}'])]
        for row in rows]))
    console.print(
        f'{SMALL_MODEL["model_name"]}, {args.epochs} epochs, {len(train.labels)} training and {len(test.labels)} test '
        f'images of {name}.\nLabels against the truth on {count} mixed test images of two classes; the true share '
        "is one object's visible part / the visible parts of both. CutMix trains on 'area', SUMix, which is the "
        "library's default here, on 'corrected', and with masks it trains on the truth.")
    draw_picture(args.out / 'demo.png', class_names, mixed, target, true, corrected)
    run = describe_run('benchmarks.demo', args.seed)
    write_result(args.out / 'results.json', {**run, **wall_time(), 'data': name, 'pairs': count, 'rows': rows})
    console.print(f'Picture: {args.out / "demo.png"}   Figures: {args.out / "results.json"}')


if __name__ == '__main__':
    main()
