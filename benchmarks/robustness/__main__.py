"""How robust are trained models? Clean, attacked, occluded and corrupted images, for one or several checkpoints.

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
from typing import Any, Dict, List

import numpy as np
import timm
import torch
from rich.console import Console
from rich.table import Table
from timm.utils import ParseKwargs

from ..common.record import describe_run, wall_time
from ..common.results import ROOT, write_result
from ..common.robustness_plot import draw_robustness
from ..data.settings import SETTINGS
from ..training import MODELS
from .changes import corruption_names
from .images import Normalised, load_images
from .measure import measure


def load_models(args: argparse.Namespace) -> Dict[str, torch.nn.Module]:
    """Return {checkpoint: model}; every checkpoint is loaded before anything is measured."""
    kwargs = MODELS[SETTINGS[args.setting].model] if args.setting else {'model_name': args.model}
    kwargs = {**kwargs, **args.model_kwargs}
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


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', nargs='*', type=Path, metavar='CHECKPOINT')
    parser.add_argument('--data-dir', help='folder of validation images, as timm reads them')
    parser.add_argument('--model', help='timm model of the checkpoints')
    parser.add_argument('--model-kwargs', nargs='*', default={}, action=ParseKwargs)
    parser.add_argument('--num-classes', type=int, default=None, help="classes (default: the model's or the setting's)")
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
        args.num_classes = SETTINGS[args.setting].classes
    return args


def main() -> None:
    """Measure the checkpoints, or draw an earlier result."""
    args = parse_args()
    if args.render:
        draw_robustness(json.loads(args.render.read_text())['rows'], args.render.with_suffix('.png'))
        return
    corruptions = corruption_names(args.corruptions)
    models = load_models(args)
    images = load_images(args, next(iter(models.values())))
    models = {name: Normalised(model, images.normal).to(args.device).eval() for name, model in models.items()}
    rows = measure(models, images, corruptions, args)
    show(rows)
    write_result(args.out, {
        **describe_run('benchmarks.robustness', args.seed, args.device), **wall_time(), 'images': len(images.labels),
        'rows': rows})
    draw_robustness(rows, args.out.with_suffix('.png'))


if __name__ == '__main__':
    main()
