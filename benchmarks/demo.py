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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import torch
from PIL import Image

from timm_sumix import correct

from .common.markdown import table
from .common.record import describe_run, wall_time
from .common.results import ROOT, write_result
from .common.scores import agreement, classification
from .data.objects import load_objects
from .data.placed import place, to_image_set
from .labels.truth import comparable, true_shares
from .problem import draw_problem
from .training import SMALL_MODEL, create_model, cutmix, predict

CUTMIX = '--cutmix 1.0 --mixup-mode pair'
ARMS = {  # SUMix: the library's default
    'no mixing': '', 'CutMix': CUTMIX, 'CutMix + SUMix': f'{CUTMIX} --sumix --sumix-preview 10',
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


def write_image_folder(pixels: np.ndarray, labels: np.ndarray, class_names: Tuple[str, ...], root: Path) -> None:
    """Write images as PNG files root/<class>/<number>.png, the layout of timm's ImageFolder, and of --sumix-masks."""
    digits = len(str(len(class_names) - 1))
    for label, name in enumerate(class_names):
        folder = root / f'{label:0{digits}d}-{name}'  # sorted by label
        folder.mkdir(parents=True)
        for i in np.flatnonzero(labels == label):
            Image.fromarray(pixels[i]).save(folder / f'{i:05d}.png', compress_level=1)


def train_arms(args: argparse.Namespace, data: Path, classes: int) -> Dict[str, float]:
    """Train all arms at once, each on one core, and return the seconds that each took; RuntimeError if one fails."""
    def train(arm: str) -> float:
        command = train_command(args, data, classes, arm) + ARMS[arm].format(masks=args.out / 'masks').split()
        start, log, epoch = time.time(), args.out / f'{slug(arm)}.log', 0
        run = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1'}, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        with open(log, 'w') as file:
            for line in run.stdout:  # type: ignore[union-attr]
                file.write(line)
                if line.startswith('Test:'):
                    epoch += 1
                    print(f'epoch {epoch} of {args.epochs}, {arm}: {line.strip()}', flush=True)
        if run.wait():
            raise RuntimeError(f'training of {arm} failed:\n' + '\n'.join(log.read_text().splitlines()[-20:]))
        return time.time() - start

    with ThreadPoolExecutor(len(ARMS)) as pool:
        return dict(zip(ARMS, pool.map(train, ARMS)))


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


def main() -> None:
    """Make the data, train all arms, compare them, and print and save the table."""
    args = parse_args()
    name, class_names, *objects = load_objects(args.data_dir)
    if name == 'digits':
        print("Fashion-MNIST is not at hand (Debian's package dataset-fashion-mnist): using scikit-learn's few digits.")
    train, test = (
        place(own, count, seed=args.seed + i)
        for i, (own, count) in enumerate(zip(objects, (args.train_images, args.test_images))))
    shutil.rmtree(args.out, ignore_errors=True)
    data = args.out / 'images'
    write_image_folder(train.images, train.labels, class_names, data / 'train')
    write_image_folder(train.masks, train.labels, class_names, args.out / 'masks' / 'train')
    # the script validates each epoch: on a part only, since all models are tested at the end
    write_image_folder(test.images[:500], test.labels[:500], class_names, data / 'validation')
    seconds = train_arms(args, data, len(class_names))
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
    print(table(['training', 'top-1 %', 'NLL', 'ECE %', 'label', 'Spearman', 'mean abs. error'], [
        [row['training'], f'{row["top1"]:.1f}', f'{row["nll"]:.3f}', f'{row["ece"]:.1f}', *(
            ['-'] * 3 if row['label'] is None else [row['label'], f'{row["spearman"]:.3f}', f'{row["mae"]:.3f}'])]
        for row in rows]))
    print(
        f'{SMALL_MODEL["model_name"]}, {args.epochs} epochs, {len(train.labels)} training and {len(test.labels)} test '
        f'images of {name}.\nLabels against the truth on {count} mixed test images of two classes; the true share '
        "is one object's visible part / the visible parts of both. CutMix trains on 'area', SUMix, which is the "
        "library's default here, on 'corrected', and with masks it trains on the truth.")
    run = describe_run('benchmarks.demo', args.seed)
    write_result(args.out / 'results.json', {**run, **wall_time(), 'data': name, 'pairs': count, 'rows': rows})
    draw_problem(args.out / 'labels.png')
    print(
        f"What is wrong with CutMix's label: {args.out / 'labels.png'}\n"
        f'Pictures of each epoch: {args.out / slug("CutMix + SUMix")}   Figures: {args.out / "results.json"}')


if __name__ == '__main__':
    main()
