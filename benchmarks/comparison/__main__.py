"""Models trained with each kind of label, on data whose truth is known: which labels make better models?

python -m benchmarks.comparison [--set NAME] [--out .comparison]
python -m benchmarks.comparison --set unmixing --device cuda --budget 600
python -m benchmarks.comparison --set real --data-dir FOLDER
python -m benchmarks.comparison --set unmixing --collect benchmarks/results/unmixing.json
python -m benchmarks.comparison --settings S ... --arms A ... --seeds 3

Each run leaves a result and a plain timm checkpoint in its own folder; runs that are done are not repeated, whichever
set they were made for.
"""
import argparse
import sys
from pathlib import Path

import torch

from ..common.record import describe_run
from ..common.results import ROOT
from ..data.settings import SETTINGS
from ..labels.arms import ALL_ARMS
from ..runs import JOBS, make_runs
from .run import collect, create_run
from .sets import SETS, keys


def main() -> None:
    """Make the runs, or collect their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--set', choices=list(SETS), default='real',
        help='which runs (default: real): sets.py says what each set holds')
    parser.add_argument('--settings', nargs='+', choices=list(SETTINGS), help="settings in place of the set's")
    parser.add_argument('--arms', nargs='+', choices=list(ALL_ARMS), help="arms in place of the set's")
    parser.add_argument('--seeds', type=int, help="number of seeds, counted from 0, in place of the set's")
    parser.add_argument('--out', type=Path, default=ROOT / '.comparison', help='folder of the runs')
    parser.add_argument('--data-dir', type=Path, help='folder that holds the photographs of cifar100 and others')
    parser.add_argument('--device', type=torch.device, default='cpu', help='cpu or cuda (default: cpu)')
    parser.add_argument('--jobs', type=int, help=f'runs at a time (default: {JOBS["cpu"]}, on a GPU {JOBS["cuda"]})')
    parser.add_argument('--budget', type=float, help='seconds: seed 0 first; begin no run that would end later')
    parser.add_argument(
        '--collect', type=Path,
        help='write the results of these runs in --out to this file instead, beside those that it holds')
    args = parser.parse_args()
    if args.seeds is not None and args.seeds < 1:
        parser.error(f'--seeds must be 1 or greater, got {args.seeds}')
    try:
        chosen = keys(args.set, args.settings, args.arms, args.seeds)
    except ValueError as error:
        parser.error(str(error))
    description = describe_run('benchmarks.comparison', sorted({seed for *_, seed in chosen}), args.device)
    runs = [create_run(key, args.out, args.data_dir) for key in chosen]
    if args.collect:
        missing = collect(runs, args.collect)
        print(f'{len(runs) - missing} of {len(runs)} runs are done')
        sys.exit(1 if missing else 0)
    sys.exit(0 if make_runs(runs, description, args.device, args.jobs, args.budget) else 1)


if __name__ == '__main__':
    main()
