"""How do trained models bear up? Clean, attacked, occluded and corrupted images, for one or several checkpoints.

python -m benchmarks.robustness CHECKPOINT ... --data-dir VALIDATION_FOLDER --model resnet50
python -m benchmarks.robustness CHECKPOINT ... --setting placed-14      (models and data of benchmarks.comparison)
python -m benchmarks.robustness --render results/robustness.json        (plots from a result, without models)

FGSM: https://arxiv.org/abs/1412.6572. Occlusion by dropped patches: https://arxiv.org/abs/2105.10497.
Common corruptions: https://arxiv.org/abs/1903.12261, by imagecorruptions-imaug (pip install -e .[robustness]).
"""
import argparse
import json
import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import matplotlib
import numpy as np
import timm
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from timm.data import create_dataset, create_transform, resolve_data_config
from timm.utils import ParseKwargs
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from .comparison import SETTINGS, make_data
from .record import ROOT, describe_run, write_result
from .training import SMALL_MODEL

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

STRENGTHS = (0.5, 1., 2., 4., 8.)  # of FGSM, in 255ths of the pixel range
DROPPED = tuple(round(0.1 * step, 1) for step in range(10))
GRID = 8  # occlusion drops cells of an 8 x 8 grid
SEVERITIES = (1, 3, 5)


class Images(NamedTuple):
    """Images [N, 3, H, W] in [0, 1], labels [N], and what models normalise by, (mean, std) of each channel."""
    pixels: torch.Tensor
    labels: torch.Tensor
    normal: Tuple[Tuple[float, ...], Tuple[float, ...]]


class Normalised(torch.nn.Module):
    """A model of images in [0, 1]."""

    def __init__(self, model: torch.nn.Module, normal: Tuple[Tuple[float, ...], Tuple[float, ...]]):
        super().__init__()
        self.model = model
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in normal)
        self.register_buffer('mean', mean)
        self.register_buffer('std', std)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits [N, C]."""
        return self.model((pixels - self.mean) / self.std)


@torch.no_grad()
def predict(model: torch.nn.Module, pixels: torch.Tensor, device: str) -> torch.Tensor:
    """Return logits [N, C] on the CPU."""
    return torch.cat([model(batch.to(device)).float().cpu() for batch in pixels.split(250)])


def attack(model: torch.nn.Module, images: Images, strength: float, device: str) -> torch.Tensor:
    """Return images moved by `strength` (of 1) along the sign of the loss's gradient: the fast gradient sign method."""
    moved = []
    for pixels, labels in zip(images.pixels.split(250), images.labels.split(250)):
        pixels = pixels.to(device).requires_grad_()
        gradient, = torch.autograd.grad(F.cross_entropy(model(pixels), labels.to(device), reduction='sum'), pixels)
        moved.append((pixels + strength * gradient.sign()).clamp(0, 1).detach().cpu())
    return torch.cat(moved)


def occlude(images: Images, dropped: float, seed: int) -> torch.Tensor:
    """Return images in each of which a share of the cells of an 8 x 8 grid, drawn at random, shows the mean colour."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(len(images.labels), GRID * GRID, generator=generator).argsort(1).argsort(1)
    hidden = (order < round(dropped * GRID * GRID)).view(-1, 1, GRID, GRID).float()
    hidden = F.interpolate(hidden, size=images.pixels.shape[-2:])
    return torch.where(hidden > 0, torch.tensor(images.normal[0]).view(1, -1, 1, 1), images.pixels)


def corrupt(images: Images, name: str, severity: int, seed: int) -> torch.Tensor:
    """Return images under one of the common corruptions."""
    from imagecorruptions import corrupt as corrupt_one
    np.random.seed(seed)
    arrays = (images.pixels * 255).round().byte().permute(0, 2, 3, 1).numpy()
    changed = np.stack([corrupt_one(array, corruption_name=name, severity=severity) for array in arrays])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).float() / 255


def top1(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return accuracy in percent."""
    return 100 * multiclass_accuracy(logits, labels, num_classes=logits.shape[1], average='micro').item()


def clean_scores(logits: torch.Tensor, labels: torch.Tensor) -> Dict[str, Any]:
    """Return top-1 and ECE (15 bins) in percent, NLL, and the reliability diagram: [confidence, accuracy, share]."""
    confidence, prediction = logits.softmax(-1).max(-1)
    right, bins = (prediction == labels).float(), (confidence * 15).long().clamp(max=14)
    diagram = [
        [confidence[bins == b].mean().item(), right[bins == b].mean().item(), (bins == b).float().mean().item()]
        for b in range(15) if (bins == b).any()]
    ece = multiclass_calibration_error(logits.softmax(-1), labels, num_classes=logits.shape[1], n_bins=15)
    return {
        'top1': top1(logits, labels), 'nll': F.cross_entropy(logits, labels).item(), 'ece': 100 * ece.item(),
        'reliability': diagram}


def measure(models: Dict[str, torch.nn.Module], images: Images, corruptions: List[str], args) -> List[Dict[str, Any]]:
    """Return a result for each model; every model sees the same occluded and corrupted images."""
    labels = images.labels
    rows = {name: {
        'checkpoint': name, **clean_scores(predict(model, images.pixels, args.device), labels),
        'fgsm': {s: top1(predict(model, attack(model, images, s / 255, args.device), args.device), labels)
                 for s in STRENGTHS},
        'occlusion': {}, 'corruptions': {}} for name, model in track(models.items(), 'Clean and FGSM')}
    for dropped in track(DROPPED, 'Occlusion'):
        pixels = occlude(images, dropped, args.seed)
        for name, model in models.items():
            rows[name]['occlusion'][dropped] = top1(predict(model, pixels, args.device), labels)
    for corruption in track(corruptions, 'Corruptions'):
        for severity in SEVERITIES:
            pixels = corrupt(images, corruption, severity, args.seed)
            for name, model in models.items():
                rows[name]['corruptions'].setdefault(corruption, {})[severity] = top1(
                    predict(model, pixels, args.device), labels)
    return list(rows.values())


def load_images(args: argparse.Namespace, model: torch.nn.Module) -> Images:
    """Return the test images of a comparison's setting, or a sample of an image folder by timm's own transform."""
    if args.setting:
        data = make_data(SETTINGS[args.setting], args.seed)[1]
        half = (0.5,) * 3
        return Images((data.images[:args.images] + 1) / 2, data.labels[:args.images], (half, half))
    config = resolve_data_config({}, model=model)
    dataset = create_dataset('', root=args.data_dir, split='validation', is_training=False)
    dataset.transform = create_transform(
        config['input_size'], interpolation=config['interpolation'], crop_pct=config['crop_pct'], normalize=False)
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(args.seed))[:args.images].tolist()
    pixels, labels = zip(*(dataset[i] for i in track(chosen, 'Reading images')))
    return Images(torch.stack(pixels).float() / 255, torch.tensor(labels), (config['mean'], config['std']))


def load_models(args: argparse.Namespace) -> Dict[str, torch.nn.Module]:
    """Return {checkpoint: model}; every checkpoint is loaded before anything is measured."""
    kwargs = dict(SMALL_MODEL) if args.setting else {'model_name': args.model}
    kwargs.update(args.model_kwargs)
    return {
        str(path): timm.create_model(**kwargs, num_classes=args.num_classes, checkpoint_path=str(path)).eval()
        for path in args.checkpoints}


def show(rows: List[Dict[str, Any]]) -> None:
    """Print a table, one line a checkpoint."""
    table = Table('checkpoint', 'top-1 %', 'NLL', 'ECE %', 'FGSM 2/255', 'half occluded', 'corruptions, mean')
    table.columns[0].overflow = 'fold'
    common = os.path.commonpath([row['checkpoint'] for row in rows]) if len(rows) > 1 else ''
    for row in rows:
        values = [value for by_severity in row['corruptions'].values() for value in by_severity.values()]
        scores = [f'{row["top1"]:.1f}', f'{row["nll"]:.3f}', f'{row["ece"]:.1f}', f'{row["fgsm"][2.]:.1f}']
        corrupted = f'{np.mean(values):.1f}' if values else '-'
        table.add_row(
            os.path.relpath(row['checkpoint'], common or None), *scores, f'{row["occlusion"][0.5]:.1f}', corrupted)
    Console().print(table)


def draw(rows: List[Dict[str, Any]], picture: Path) -> None:
    """Draw reliability diagram and occlusion curve; rows of one 'name' (an arm's seeds) are drawn as their mean."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
    names = list(dict.fromkeys(row.get('name', row['checkpoint']) for row in rows))
    left.plot([0, 1], [0, 1], ':', color='#888888')
    for name in names:
        own = [row for row in rows if row.get('name', row['checkpoint']) == name]
        diagram = np.array(sorted(bar for row in own for bar in row['reliability']))
        groups = np.array_split(diagram, 10)
        points = [np.average(group[:, :2], axis=0, weights=group[:, 2]) for group in groups if len(group)]
        left.plot(*zip(*points), '.-', label=name)
        dropped = [float(key) for key in own[0]['occlusion']]
        right.plot(dropped, [np.mean([row['occlusion'][key] for row in own]) for key in own[0]['occlusion']], '.-')
    left.set(xlabel='confidence', ylabel='accuracy', title='Reliability')
    right.set(xlabel='share of patches dropped', ylabel='top-1 %', title='Occlusion')
    left.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(picture, dpi=90)
    plt.close(figure)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', nargs='*', type=Path, metavar='CHECKPOINT')
    parser.add_argument('--data-dir', help='folder of validation images, as timm reads them')
    parser.add_argument('--model', help='timm model of the checkpoints')
    parser.add_argument('--model-kwargs', nargs='*', default={}, action=ParseKwargs)
    parser.add_argument('--num-classes', type=int, default=None, help="number of classes (default: the model's; 10)")
    parser.add_argument('--setting', choices=list(SETTINGS), help="a comparison's setting, in place of the above")
    parser.add_argument('--images', type=int, default=2000, help='number of images (default: 2000)')
    parser.add_argument('--corruptions', nargs='*', help="names of common corruptions (default: the benchmark's 15)")
    parser.add_argument('--seed', type=int, default=0, help='seed of data, occlusion and corruptions (default: 0)')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', type=Path, default=ROOT / 'robustness.json', help='result; a plot is put beside it')
    parser.add_argument('--render', type=Path, help='draw the plot of this result instead')
    args = parser.parse_args()
    if args.render:
        return args
    if not args.checkpoints:
        parser.error('CHECKPOINT: at least one must be given')
    missing = [str(path) for path in args.checkpoints if not path.is_file()]
    if missing:
        parser.error(f'CHECKPOINT must be files, there is no {", ".join(missing)}')
    if bool(args.setting) == bool(args.data_dir and args.model):
        parser.error('either --setting, or --data-dir and --model, must be given')
    if args.setting and args.num_classes is None:
        args.num_classes = 10
    return args


def corruption_names(wanted: List[str]) -> List[str]:
    """Return the corruptions to measure, all 15 by default; ValueError if one is unknown."""
    if wanted == []:
        return []
    try:
        from imagecorruptions import get_corruption_names
    except ImportError as error:
        raise ImportError(
            'corruptions need the package imagecorruptions-imaug: pip install -e .[robustness], or give --corruptions '
            'without a name to leave them out') from error
    known = get_corruption_names('all')
    unknown = [name for name in wanted or [] if name not in known]
    if unknown:
        raise ValueError(f'--corruptions must be among {known}, got {unknown}')
    return wanted or get_corruption_names('common')


def main() -> None:
    """Measure the checkpoints, or draw an earlier result."""
    args = parse_args()
    if args.render:
        draw(json.loads(args.render.read_text())['rows'], args.render.with_suffix('.png'))
        return
    corruptions = corruption_names(args.corruptions)
    models = load_models(args)
    images = load_images(args, next(iter(models.values())))
    models = {name: Normalised(model, images.normal).to(args.device).eval() for name, model in models.items()}
    rows = measure(models, images, corruptions, args)
    show(rows)
    write_result(args.out, {
        **describe_run('benchmarks.robustness', args.seed, args.device), 'images': len(images.labels), 'rows': rows})
    draw(rows, args.out.with_suffix('.png'))


if __name__ == '__main__':
    main()
