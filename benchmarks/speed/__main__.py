"""What does it cost? Training steps and their parts, beside timm's own.

    python -m benchmarks.speed [--device cuda] [--amp] [--parts steps mixing ...] [--out FILE]
    torchrun --nproc_per_node 2 -m benchmarks.speed --parts steps [--out FILE]

Calls that are compared take turns in one run. A ratio is the median of time over time of one turn, with its quartiles;
compare ratios, not milliseconds of different runs.
"""
import argparse
from pathlib import Path
from typing import Any, Callable, Dict

import torch

from ..common.record import describe_run, wall_time
from ..common.results import RESULTS, write_result
from .mixing import NUM_CLASSES, mixing, policies
from .steps import SETTINGS, Workload, grow, measure, number_of_processes

MODELS = {
    'cpu': ('resnet18', 'vit_tiny_patch16_224', 'convnext_atto'),
    'cuda': ('resnet50', 'vit_small_patch16_224', 'convnext_tiny'),
}
BATCH_SIZE = {'cpu': 8, 'cuda': 128}
GROWTH = {
    'cpu': {'batch_size': (2, 8, 16), 'size': (96, 160, 224), 'num_classes': (10, 1000, 21841)},
    'cuda': {'batch_size': (32, 128, 256), 'size': (128, 224, 288), 'num_classes': (10, 1000, 21841)},
}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', type=torch.device, default='cpu', help='cpu or cuda (default: cpu)')
    parser.add_argument('--amp', action='store_true', help='steps under autocast to bfloat16')
    parser.add_argument(
        '--parts', nargs='+', choices=list(PARTS), default=list(PARTS), help='what to measure (default: all)')
    parser.add_argument('--models', nargs='+', help='timm models of the steps (default: three, by device)')
    parser.add_argument(
        '--settings', nargs='+', choices=list(SETTINGS), default=list(SETTINGS),
        help='settings of the steps (default: all)')
    parser.add_argument('--batch-size', type=int, help='images in each process (default: 8, on a GPU 128)')
    parser.add_argument('--size', type=int, default=224, help='height and width in pixels (default: 224)')
    parser.add_argument('--repeats', type=int, default=9, help='turns of the steps (default: 9); of parts 3 times')
    parser.add_argument('--out', type=Path, default=RESULTS / 'speed.json', help='result file')
    args = parser.parse_args()
    if args.repeats < 2:
        parser.error(f'--repeats must be 2 or greater, got {args.repeats}')
    if args.device.type == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda needs a GPU that torch can use, and there is none')
    args.models = args.models or MODELS[args.device.type]
    args.batch_size = args.batch_size or BATCH_SIZE[args.device.type]
    return args


def _workload(args: argparse.Namespace, model: str) -> Workload:
    return Workload(model, args.batch_size, args.size, NUM_CLASSES, args.device, args.amp)


def _mixing(args: argparse.Namespace) -> Dict[str, Any]:
    x = torch.rand(args.batch_size, 3, args.size, args.size, device=args.device)
    labels = torch.randint(0, NUM_CLASSES, (args.batch_size,), device=args.device)
    repeats = 3 * args.repeats
    return {'others': mixing(x, labels, repeats), 'policies': policies(x, labels, repeats)}


PARTS: Dict[str, Callable[[argparse.Namespace], Dict[str, Any]]] = {
    'steps': lambda args: {
        model: measure(_workload(args, model), args.settings, args.repeats) for model in args.models},
    'growth': lambda args: grow(_workload(args, args.models[0]), args.repeats, GROWTH[args.device.type]),
    'mixing': _mixing,
}


def main() -> None:
    """Measure and write the figures; of several processes the first one writes."""
    args, processes = parse_args(), number_of_processes()
    if processes > 1:
        torch.distributed.init_process_group('gloo' if args.device.type == 'cpu' else 'nccl')
        if args.device.type == 'cuda':
            args.device = torch.device('cuda', torch.distributed.get_rank())
    is_first = processes == 1 or torch.distributed.get_rank() == 0
    torch.manual_seed(0)
    run = describe_run('benchmarks.speed', 0, args.device)
    if processes > 1:
        run['command'] = run['command'].replace('python', f'torchrun --nproc_per_node {processes}', 1)
    figures = {}
    for part in args.parts:
        figures[part] = PARTS[part](args)
        if is_first:
            print(f'{part}: {args.out}')
            write_result(args.out, {  # after each part: a GPU can be taken away before the last
                **run, **wall_time(), 'processes': processes, 'batch_size': args.batch_size, 'size': args.size,
                'amp': args.amp, 'repeats': args.repeats, **figures})
    if processes > 1:
        torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
