"""Models trained with each kind of label, on data whose truth is known: which labels make better models?

python -m benchmarks.comparison [--settings S ...] [--arms A ...] [--seeds 3] [--jobs 2] [--out .comparison]
python -m benchmarks.comparison --collect benchmarks/results/comparison.json

Each run leaves a result and a plain timm checkpoint in its own folder; runs that are done are not repeated.
"""
import argparse
from pathlib import Path

from ..common.processes import run_jobs
from ..common.record import describe_run
from ..common.results import ROOT
from ..data.settings import SETTINGS
from ..labels.arms import ALL_ARMS, EVERYWHERE
from .runs import collect, run_one, runs


def main() -> None:
    """Make the runs, or collect their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--settings', nargs='+', choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument(
        '--arms', nargs='+', choices=list(ALL_ARMS), default=None,
        help=f'arms, run in each of the settings (default: all labels in placed-14, elsewhere {", ".join(EVERYWHERE)})')
    parser.add_argument('--seeds', type=int, default=3, help='number of seeds, counted from 0 (default: 3)')
    parser.add_argument('--jobs', type=int, default=2, help='runs at a time, one thread each (default: 2)')
    parser.add_argument('--out', type=Path, default=ROOT / '.comparison', help='folder of the runs')
    parser.add_argument('--collect', type=Path, help='write the results of all runs in --out to this file instead')
    args = parser.parse_args()
    if args.collect:
        collect(args.out, args.collect)
        return
    chosen = runs(args.settings, args.arms, args.seeds)
    if not chosen:
        parser.error(f'nothing is to be run: --seeds must be 1 or greater, got {args.seeds}')
    description = describe_run('benchmarks.comparison', list(range(args.seeds)))
    jobs = [(*run, args.out, description) for run in chosen]
    for _ in run_jobs(run_one, jobs, args.jobs, 'Runs'):
        pass


if __name__ == '__main__':
    main()
