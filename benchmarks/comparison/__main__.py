"""Models trained with each kind of label, on data whose truth is known: which labels make better models?

python -m benchmarks.comparison [--set comparison|seeds|controls|larger|transformer] [--jobs 2] [--out .comparison]
python -m benchmarks.comparison --set seeds --collect benchmarks/results/seeds.json
python -m benchmarks.comparison --settings S ... --arms A ... --seeds 3
python -m benchmarks.comparison --settings S ... --arms A ... --temperature benchmarks/results/temperature.json

Each run leaves a result and a plain timm checkpoint in its own folder; runs that are done are not repeated, whichever
set they were made for.
"""
import argparse
import sys
from pathlib import Path

from rich.progress import track

from ..common.processes import run_jobs
from ..common.record import describe_run, wall_time
from ..common.results import ROOT, write_result
from ..data.settings import SETTINGS
from ..labels.arms import ALL_ARMS
from .runs import collect, run_one
from .sets import SETS, runs
from .temperature import scale_run


def main() -> None:
    """Make the runs, or collect their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--set', choices=list(SETS), default='comparison',
        help='every label, the main ones at many seeds, controls and ideas, a larger model, or a transformer')
    parser.add_argument('--settings', nargs='+', choices=list(SETTINGS), help="settings in place of the set's")
    parser.add_argument('--arms', nargs='+', choices=list(ALL_ARMS), help="arms in place of the set's")
    parser.add_argument('--seeds', type=int, help="number of seeds, counted from 0, in place of the set's")
    parser.add_argument('--jobs', type=int, default=2, help='runs at a time, one thread each (default: 2)')
    parser.add_argument('--out', type=Path, default=ROOT / '.comparison', help='folder of the runs')
    parser.add_argument(
        '--collect', type=Path,
        help='write the results of these runs in --out to this file instead, beside those that it holds')
    parser.add_argument(
        '--temperature', type=Path,
        help='write the scores of these runs in --out, calibrated by a temperature each, to this file instead')
    args = parser.parse_args()
    if args.seeds is not None and args.seeds < 1:
        parser.error(f'--seeds must be 1 or greater, got {args.seeds}')
    try:
        chosen = runs(args.set, args.settings, args.arms, args.seeds)
    except ValueError as error:
        parser.error(str(error))
    if args.collect:
        missing = collect(args.out, chosen, args.collect)
        print(f'{len(chosen) - missing} of {len(chosen)} runs are done')
        sys.exit(1 if missing else 0)
    description = describe_run('benchmarks.comparison', sorted({seed for *_, seed in chosen}))
    if args.temperature:
        rows = [scale_run(run, args.out) for run in track(chosen, 'Checkpoints')]
        write_result(args.temperature, {**description, **wall_time(), 'rows': rows})
        return
    jobs = [(*run, args.out, description) for run in chosen]
    for _ in run_jobs(run_one, jobs, args.jobs, 'Runs'):
        pass


if __name__ == '__main__':
    main()
