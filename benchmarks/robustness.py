"""How robust are models of the comparison? Clean, attacked, occluded and corrupted test images.

python -m benchmarks.robustness CHECKPOINT ... --setting placed-14 [--out robustness.json]

FGSM: https://arxiv.org/abs/1412.6572. Occlusion by dropped patches: https://arxiv.org/abs/2105.10497.
Common corruptions: https://arxiv.org/abs/1903.12261, by imagecorruptions-imaug (pip install -e .[robustness]).
"""
import argparse
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track

from .common.record import describe_run, wall_time
from .common.results import ROOT, write_result
from .common.scores import BINS, classification, top1
from .data.settings import SETTINGS, make_data
from .training import MODELS, create_model, predict

STRENGTHS = (0.5, 1., 2., 4., 8.)  # of FGSM, in 255ths of the pixel range
DROPPED = tuple(round(0.1 * step, 1) for step in range(10))
SEVERITIES = (1, 3, 5)
GRID = 8  # occlusion drops cells of an 8 x 8 grid


def attack(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, strength: float) -> torch.Tensor:
    """Return images moved along the sign of the loss's gradient: the fast gradient sign method.

    Args:
        model: A model in evaluation mode.
        images: Images [N, 3, S, S] in [-1, 1].
        labels: Their classes [N].
        strength: How far, as a part of the pixel range.
    """
    moved = []
    for own, right in zip(images.split(250), labels.split(250)):
        own = own.clone().requires_grad_()
        gradient, = torch.autograd.grad(F.cross_entropy(model(own), right, reduction='sum'), own)
        moved.append((own + 2 * strength * gradient.sign()).clamp(-1, 1).detach())
    return torch.cat(moved)


def occlude(images: torch.Tensor, dropped: float, seed: int) -> torch.Tensor:
    """Return images in each of which a share `dropped` of the cells of a grid, drawn at random, is mean grey."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(len(images), GRID * GRID, generator=generator).argsort(1).argsort(1)
    hidden = (order < round(dropped * GRID * GRID)).view(-1, 1, GRID, GRID).float()
    return torch.where(F.interpolate(hidden, size=images.shape[-2:]) > 0, 0., images)


def corrupt(images: torch.Tensor, name: str, severity: int, seed: int) -> torch.Tensor:
    """Return images under one of the common corruptions, at a severity from 1 to 5."""
    from imagecorruptions import corrupt as corrupt_one
    np.random.seed(seed)
    arrays = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    changed = np.stack([corrupt_one(array, corruption_name=name, severity=severity) for array in arrays])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).float() / 127.5 - 1


def corruption_names() -> List[str]:
    """Return the names of the 15 common corruptions."""
    from imagecorruptions import get_corruption_names
    return get_corruption_names('common')


def reliability(logits: torch.Tensor, labels: torch.Tensor) -> List[List[float]]:
    """Return [confidence, accuracy, share] of each bin of the confidence that is not empty."""
    confidence, prediction = logits.softmax(-1).max(-1)
    right, bins = (prediction == labels).float(), (confidence * BINS).long().clamp(max=BINS - 1)
    return [
        [confidence[bins == b].mean().item(), right[bins == b].mean().item(), (bins == b).float().mean().item()]
        for b in range(BINS) if (bins == b).any()]


def measure(
        models: Dict[str, torch.nn.Module], images: torch.Tensor, labels: torch.Tensor, corruptions: List[str],
        seed: int,
) -> List[Dict[str, Any]]:
    """Return a result for each model; every model sees the same occluded and corrupted images.

    Args:
        models: {checkpoint: model in evaluation mode}.
        images: Images [N, 3, S, S] in [-1, 1].
        labels: Their classes [N].
        corruptions: Names of common corruptions.
        seed: Seed of occlusion and corruptions.
    """
    def scores(changed: torch.Tensor) -> List[float]:
        return [top1(predict(model, changed), labels) for model in models.values()]

    clean = [predict(model, images) for model in models.values()]
    rows = [
        {'checkpoint': name, **classification(logits, labels), 'reliability': reliability(logits, labels),
         'fgsm': {}, 'occlusion': {}, 'corruptions': {name: {} for name in corruptions}}
        for name, logits in zip(models, clean)]
    for row, model in zip(rows, track(models.values(), 'FGSM')):
        for strength in STRENGTHS:
            row['fgsm'][strength] = top1(predict(model, attack(model, images, labels, strength / 255)), labels)
    for dropped in track(DROPPED, 'Occlusion'):
        for row, score in zip(rows, scores(occlude(images, dropped, seed))):
            row['occlusion'][dropped] = score
    for name in track(corruptions, 'Corruptions'):
        for severity in SEVERITIES:
            for row, score in zip(rows, scores(corrupt(images, name, severity, seed))):
                row['corruptions'][name][severity] = score
    return rows


def main() -> None:
    """Measure the checkpoints, and write their scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', nargs='+', type=Path, metavar='CHECKPOINT')
    parser.add_argument('--setting', choices=list(SETTINGS), default='placed-14', help='setting of the checkpoints')
    parser.add_argument('--images', type=int, default=2000, help='number of images (default: 2000)')
    parser.add_argument('--corruptions', nargs='*', help='names of corruptions (default: the 15 common ones)')
    parser.add_argument('--seed', type=int, default=0, help='seed of data, occlusion and corruptions (default: 0)')
    parser.add_argument('--out', type=Path, default=ROOT / 'robustness.json', help='result file')
    args = parser.parse_args()
    corruptions = corruption_names() if args.corruptions is None else args.corruptions
    setting = SETTINGS[args.setting]
    models = {
        str(path): create_model(setting.classes, **MODELS[setting.model], checkpoint_path=str(path)).eval()
        for path in args.checkpoints}
    images, labels = (part[:args.images] for part in make_data(setting, args.seed).test[::2])
    rows = measure(models, images, labels, corruptions, args.seed)
    for row in rows:
        print(f'{row["checkpoint"]}: top-1 {row["top1"]:.1f}, half occluded {row["occlusion"][0.5]:.1f}, '
              f'under FGSM of 2 / 255 {row["fgsm"][2.]:.1f}')
    write_result(args.out, {
        **describe_run('benchmarks.robustness', args.seed), **wall_time(), 'images': len(labels), 'rows': rows})


if __name__ == '__main__':
    main()
