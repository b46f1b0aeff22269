"""The paper's tables, one command each: train what is not trained yet, and compare with the paper's figures.

    python -m benchmarks.tables cifar100 --data-dir /data/cifar100 [--train-script timm/train.py] [--nproc 4]
    python -m benchmarks.tables imagenet --data-dir /data/imagenet --ratio released --rows 'resnet18/cutmix*'
    python -m benchmarks.tables cifar100 --data-dir /data/cifar100 --dry-run > jobs.txt

Further arguments go to the train script (--device cpu, --workers 8, --amp). Every run has a folder of its own; a rerun
skips finished runs and resumes interrupted ones. Several runners, on one machine or on many that share the folder,
divide the runs among them. --dry-run prints one command a line, for sbatch or xargs; the next call reads the runs that
were started so.
"""
import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import List

from timm_sumix.correction import RATIOS

from ..common.results import ROOT
from ..runs import Run, make_runs
from .cells import cells, command
from .run import create_run
from .table import TABLES, render


def parse_args() -> argparse.Namespace:
    """Parse the command line; what is unknown goes to the train script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('table', choices=list(TABLES), help='table to make')
    parser.add_argument('--ratio', choices=list(RATIOS), default='similarity', help='ratio of the SUMix arm')
    parser.add_argument('--data-dir', type=Path, help='folder of the data set')
    parser.add_argument(
        '--train-script', type=Path, default=ROOT / 'benchmarks' / 'train.py',
        help="timm's train.py (default: benchmarks/train.py)")
    parser.add_argument('--nproc', type=int, default=1, help='processes (GPUs) a run; the batch is divided among them')
    parser.add_argument('--rows', nargs='+', help="runs to take, as shell patterns: 'resnet18/cutmix', '*/*/base'")
    parser.add_argument('--seeds', type=int, default=3, help='number of seeds (default: 3)')
    parser.add_argument('--out', type=Path, default=ROOT / '.tables', help='folder of all runs (default: .tables)')
    parser.add_argument('--dry-run', action='store_true', help='print the commands of what is not done, and stop')
    args, args.further = parser.parse_known_args()
    for name in ('data_dir', 'out', 'train_script'):  # the training runs in another folder
        value = getattr(args, name)
        setattr(args, name, value and value.resolve())
    return args


def create_runs(args: argparse.Namespace) -> List[Run]:
    """Return the runs of a table; FileNotFoundError or ValueError if an argument is wrong."""
    if not args.train_script.is_file():
        raise FileNotFoundError(f'--train-script must be a train script, {args.train_script} is no file')
    if args.nproc < 1 or args.seeds < 1:
        raise ValueError(f'--nproc and --seeds must be 1 or greater, got {args.nproc} and {args.seeds}')
    return [create_run(cell, args) for cell in cells(args.table, args.ratio, args.seeds, args.rows)]


def main() -> None:
    """Run or print the cells of a table, and render it."""
    args = parse_args()
    try:
        runs = create_runs(args)
        # also without --dry-run: a command that cannot be made is an error before anything is trained
        lines = [shlex.join(command(run.what[0], args)) for run in runs if not run.result.is_file()]
        if args.dry_run:
            print('\n'.join(lines))
            return
        if args.data_dir is None or not args.data_dir.is_dir():
            raise FileNotFoundError(
                f'--data-dir must hold {args.table} as docs/tables.md says, {args.data_dir} is no folder')
        complete = make_runs(runs, {}, jobs=1)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'benchmarks.tables: {error}')
    except KeyboardInterrupt:
        sys.exit('benchmarks.tables: interrupted; the same command goes on from the last checkpoint')
    found = (json.loads(path.read_text()) for path in sorted(args.out.rglob('result.json')))
    print(render(TABLES[args.table], [result for result in found if result['table'] == args.table]))
    sys.exit(0 if complete else 1)


if __name__ == '__main__':
    main()
