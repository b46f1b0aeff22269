"""How long mixing takes: SUMixMixup side by side with timm.data.Mixup, and each policy as a multiple of CutMix.

    python -m benchmarks.speed [--device cuda] [--batch-size 64] [--sizes 128 224]

Times are medians of interleaved calls in one run, in milliseconds; compare ratios, not times of different runs.
"""
import argparse
from typing import Dict

import torch
from rich.console import Console
from rich.table import Table

from ..common.record import describe_run
from ..common.results import write_result
from .timings import run


def _show(console: Console, title: str, rows: Dict[str, Dict[str, float]]) -> None:
    table = Table('what', *next(iter(rows.values())), title=title)
    for name, row in rows.items():
        table.add_row(name, *(f'{value:.2f}' for value in row.values()))
    console.print(table)


def main() -> None:
    """Parse arguments, measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', type=torch.device, default='cpu')
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--sizes', type=int, nargs='+', default=[128, 224])
    parser.add_argument('--repeats', type=int, default=50)
    parser.add_argument('--output', help='JSON file for the figures')
    args = parser.parse_args()
    torch.manual_seed(0)
    console, result = Console(), {}
    for size in args.sizes:
        result[str(size)] = run(size, args.batch_size, args.device, args.repeats)
        for title, rows in result[str(size)].items():
            _show(console, f'{title}, {args.batch_size} x 3 x {size} x {size}, ms', rows)
    if args.output:
        run_of = describe_run('benchmarks.speed', 0, args.device)
        write_result(args.output, {**run_of, 'batch_size': args.batch_size, 'sizes': result})


if __name__ == '__main__':
    main()
