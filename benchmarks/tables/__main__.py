"""The paper's tables, one command each: train what is not trained yet, and compare with the paper's figures.

    python -m benchmarks.tables cifar100 --data-dir /data/cifar100 [--train-script timm/train.py] [--nproc 4]
    python -m benchmarks.tables imagenet --data-dir /data/imagenet --ratio released --rows 'resnet18/cutmix*'
    python -m benchmarks.tables cifar100 --data-dir /data/cifar100 --dry-run > jobs.txt
    python -m benchmarks.tables placed_fashion --rows 'wide_resnet10_1/*' --device cpu
    python -m benchmarks.tables placed_fashion --render benchmarks/results/tables [--picture FILE]

Further arguments go to the train script (--device cpu, --workers 8, --amp). Every run has a folder of its own; a rerun
skips finished runs and resumes interrupted ones. Several runners, on one machine or on many that share the folder,
divide the runs among them. --dry-run prints one command a line, for sbatch or xargs; the next call reads the runs that
were started so.
"""
import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from timm_sumix.correction import RATIOS

from ..common.paper_tables import DEFINITION, TABLES, render
from ..common.results import ROOT, read_runs, write_result
from ..data.folders import prepare
from .cells import LOCAL, cells, check_data, command, data_folder, run_folder
from .runs import run_all


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
    parser.add_argument('--render', type=Path, metavar='FOLDER', help='only print the table of the results in FOLDER')
    parser.add_argument(
        '--picture', type=Path, metavar='FILE',
        help='draw the table to this file (default: into --out; with --render, nowhere)')
    parser.add_argument('--collect', type=Path, metavar='FILE', help='also write all results into one JSON file')
    args, args.further = parser.parse_known_args()
    for name in ('data_dir', 'out', 'train_script'):  # the training runs in another folder
        value = getattr(args, name)
        setattr(args, name, value and value.resolve())
    return args


def main() -> None:
    """Run or print the cells of a table, and render it."""
    args, console = parse_args(), Console(soft_wrap=True)
    if args.render is None:
        try:
            if not args.train_script.is_file():
                raise FileNotFoundError(f'--train-script must be a train script, {args.train_script} is no file')
            if args.nproc < 1 or args.seeds < 1:
                raise ValueError(f'--nproc and --seeds must be 1 or greater, got {args.nproc} and {args.seeds}')
            if args.table == 'rsb' and args.ratio == 'released':
                raise ValueError("--ratio released needs cross-entropy, and RSB's recipes use BCE")
            todo = cells(args.table, args.ratio, args.seeds, args.rows)
            # also without --dry-run: a command that cannot be made is an error before anything is trained
            lines = [
                shlex.join(command(cell, args)) for cell in todo
                if not (run_folder(cell, args.out) / 'result.json').is_file()]
            if args.dry_run:
                print('\n'.join(lines))
                return
            check_data(args.table, args.data_dir)
            if args.table in LOCAL:
                for folder, row in {data_folder(cell, args.data_dir): cell.row for cell in todo}.items():
                    prepare(args.table, folder, **DEFINITION['images'][row], classes=DEFINITION['classes'][row])
        except (FileNotFoundError, ValueError) as error:
            sys.exit(f'benchmarks.tables: {error}')
        try:
            complete = run_all(todo, args, console)
        except KeyboardInterrupt:
            sys.exit('benchmarks.tables: interrupted; the same command goes on from the last checkpoint')
    folder = args.render or args.out / args.table
    results = [result for result in read_runs(folder) if result['table'] == args.table]
    if args.collect:
        write_result(args.collect, {'runs': results})
    picture = args.picture or (None if args.render else folder / f'{args.table}.png')
    print(render(args.table, TABLES[args.table], results, picture))
    if args.render is None and not complete:
        sys.exit(1)


if __name__ == '__main__':
    main()
