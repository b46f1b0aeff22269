"""How true is each label? Labels of mixed test images against the share of each object that is visible in truth.

python -m benchmarks.fidelity --grid --data-dir FOLDER         (weights of the formula, on photographs and canvases)
python -m benchmarks.fidelity --scenes photographs            (an ImageNet network on photographed objects, see below)
python -m benchmarks.fidelity [--scenes transformers] [--shares 0.05 0.2 0.4 0.6 1.0] [--seeds 1] [--jobs 2]
python -m benchmarks.fidelity --rescore tests/data/predictions.npz      (scores of saved predictions, beside them)

Scene photographs asks a network with published weights about photographed objects; both are fetched by apt-get and pip.
For each other a probe model is trained with CutMix, its labels by area. Then test images are mixed, and each way
to label them is compared with the truth: Spearman's correlation, mean absolute error, and calibration (mean absolute
difference between label and truth in ten bins of the label).
"""
import argparse
import sys
from pathlib import Path
from typing import List, Tuple

from ..common.record import describe_run, wall_time
from ..common.results import RESULTS, ROOT, write_result
from ..runs import make_runs, read_results
from .compare import compare
from .grid import KINDS, combine
from .kinds import PHOTOGRAPHS, TRANSFORMERS
from .predictions import read_predictions
from .run import Job, create_run


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--shares', type=float, nargs='*', default=[0.05, 0.2, 0.4, 0.6, 1.0],
                        help="share of the canvas that an object's box takes, one scene each")
    parser.add_argument('--scenes', choices=['transformers', 'photographs'],
                        help='transformers, or photographs, which need no training, in place of --shares')
    parser.add_argument('--grid', action='store_true', help='weights of the formula, in place of scenes: see grid.py')
    parser.add_argument('--data-dir', type=Path, help='folder that holds Tiny-ImageNet, for --grid')
    parser.add_argument('--images', type=int, default=20000, help='training images of a probe model (default: 20000)')
    parser.add_argument('--test-images', type=int, help='test images (default: 5000, photographs 924 of each kind)')
    parser.add_argument('--epochs', type=int, default=15, help='epochs of a probe model (default: 15)')
    parser.add_argument('--seeds', type=int, default=1, help='number of seeds, counted from 0 (default: 1)')
    parser.add_argument('--jobs', type=int, default=2, help='probe models at a time, one thread each (default: 2)')
    parser.add_argument('--runs', type=Path, default=ROOT / '.fidelity', help='folder of the runs; what is done stays')
    parser.add_argument('--out', type=Path, help='result file (default: fidelity.json, or with -SCENES in its name)')
    parser.add_argument('--predictions', type=Path, help="save a few predictions of share 0.2's model, seed 0, here")
    parser.add_argument('--rescore', type=Path, help='score these saved predictions instead')
    args = parser.parse_args()
    if not all(0. < share <= 1. for share in args.shares):
        parser.error(f'--shares must be in (0, 1], got {args.shares}')
    return args


def create_jobs(args: argparse.Namespace) -> Tuple[str, List[Job]]:
    """Return the name of the result, and the jobs that make it."""
    seeds, published = range(args.seeds), args.test_images or 924
    if args.grid:
        return 'fidelity-grid', [
            Job(name, args.images, args.epochs, published, seed, True, args.data_dir)
            for seed in seeds for name in KINDS]
    if args.scenes == 'photographs':
        return 'fidelity-photographs', [
            Job(name, args.images, args.epochs, published, seed) for seed in seeds for name in PHOTOGRAPHS]
    names = list(TRANSFORMERS) if args.scenes else [f'share {share:g}' for share in args.shares]
    return 'fidelity-transformers' if args.scenes else 'fidelity', [
        Job(name, args.images, args.epochs, args.test_images or 5000, seed,
            predictions=None if seed else args.predictions) for seed in seeds for name in names]


def main() -> None:
    """Make the runs that are not done, and write the scores of all of them."""
    args = parse_args()
    description = describe_run('benchmarks.fidelity', list(range(args.seeds)))
    if args.rescore:
        rows = compare(read_predictions(args.rescore), {})
        write_result(args.rescore.with_suffix('.json'), {**description, **wall_time(), 'rows': rows})
        return
    name, jobs = create_jobs(args)
    runs = [create_run(job, args.runs) for job in jobs]
    make_runs(runs, description, jobs=args.jobs)
    results = read_results(runs)
    if len(results) < len(runs):
        sys.exit(f'benchmarks.fidelity: {len(runs) - len(results)} runs are not done, so that nothing is written')
    description['commit'] = sorted({result['commit'] for result in results})  # some may have been done before
    found = combine(results) if args.grid else {'rows': [row for result in results for row in result['rows']]}
    write_result(args.out or RESULTS / f'{name}.json', {**description, **wall_time(), **found})


if __name__ == '__main__':
    main()
