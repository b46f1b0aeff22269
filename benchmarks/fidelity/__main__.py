"""How true is each label? Labels of mixed test images against the share of each object that is visible in truth.

python -m benchmarks.fidelity --grid --data-dir FOLDER         (weights of the formula, on photographs and canvases)
python -m benchmarks.fidelity --scenes photographs            (an ImageNet network on photographed objects, see below)
python -m benchmarks.fidelity [--scenes S ...] [--shares 0.05 0.2 0.4 0.6 1.0] [--seeds 1] [--jobs 2] [--out FILE]
python -m benchmarks.fidelity --rescore tests/data/predictions.npz      (scores of saved predictions, beside them)

Scene photographs asks a network with published weights about photographed objects; both are fetched by apt-get and pip.
For each other scene a probe model is trained with CutMix, its labels by area. Then test images are mixed, and each way
to label them is compared with the truth: Spearman's correlation, mean absolute error, and calibration (mean absolute
difference between label and truth in ten bins of the label).
"""
import argparse
import sys
from pathlib import Path
from typing import List

from ..common.record import describe_run, wall_time
from ..common.results import RESULTS, ROOT, write_result
from ..runs import make_runs, read_results
from .compare import compare
from .grid import KINDS, combine
from .photographs import PHOTOGRAPHS
from .predictions import read_predictions
from .run import Job, create_run
from .scenes import SCENES, Scene


def main() -> None:
    """Train and ask a probe model for each scene, and write the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--shares', type=float, nargs='*', default=[0.05, 0.2, 0.4, 0.6, 1.0],
                        help="share of the canvas that an object's box takes, one scene each")
    parser.add_argument('--scenes', nargs='*', choices=[*SCENES, 'photographs'], default=list(SCENES),
                        help='further scenes, or photographs alone, which needs no training')
    parser.add_argument('--grid', action='store_true', help='weights of the formula, in place of scenes: see grid.py')
    parser.add_argument('--data-dir', type=Path, help='folder that holds Tiny-ImageNet, for --grid')
    parser.add_argument('--images', type=int, default=20000, help='training images of a probe model (default: 20000)')
    parser.add_argument('--test-images', type=int, help='test images (default: 5000, photographs 924 of each kind)')
    parser.add_argument('--epochs', type=int, default=15, help='epochs of a probe model (default: 15)')
    parser.add_argument('--seeds', type=int, default=1, help='number of seeds, counted from 0 (default: 1)')
    parser.add_argument('--jobs', type=int, default=2, help='probe models at a time, one thread each (default: 2)')
    parser.add_argument('--runs', type=Path, default=ROOT / '.fidelity', help='folder of the runs; what is done stays')
    parser.add_argument('--out', type=Path, help='result file (default: fidelity.json, or fidelity-photographs.json)')
    parser.add_argument('--predictions', type=Path, help="save a few predictions of share 0.2's model, seed 0, here")
    parser.add_argument('--rescore', type=Path, help='score these saved predictions instead')
    args = parser.parse_args()
    if args.grid:
        run(args, 'fidelity-grid', [
            Job(kind, None, args.images, args.epochs, args.test_images or 924, seed, data_dir=args.data_dir, grid=True)
            for seed in range(args.seeds) for kind in KINDS])
        return
    if args.rescore:
        rows = compare(read_predictions(args.rescore), {})
        description = describe_run('benchmarks.fidelity', 0)
        write_result(args.rescore.with_suffix('.json'), {**description, **wall_time(), 'rows': rows})
        return
    if args.scenes == ['photographs']:
        run(args, 'fidelity-photographs', [
            Job(name, None, 0, 0, args.test_images or 924, seed)
            for seed in range(args.seeds) for name in PHOTOGRAPHS])
        return
    if 'photographs' in args.scenes:
        parser.error('--scenes photographs must stand alone: it has a result file of its own')
    for share in args.shares:
        if not 0. < share <= 1.:
            parser.error(f'--shares must be in (0, 1], got {share}')
    scenes = {**{f'share {share:g}': Scene(share) for share in args.shares}, **{n: SCENES[n] for n in args.scenes}}
    run(args, 'fidelity', [
        Job(name, scene, args.images, args.epochs, args.test_images or 5000, seed, None if seed else args.predictions)
        for seed in range(args.seeds) for name, scene in scenes.items()])


def run(args: argparse.Namespace, name: str, jobs: List[Job]) -> None:
    """Make the runs that are not done, and write the rows of all of them."""
    runs = [create_run(job, args.runs) for job in jobs]
    description = describe_run('benchmarks.fidelity', list(range(args.seeds)))
    make_runs(runs, description, jobs=args.jobs)
    results = read_results(runs)
    if len(results) < len(runs):
        sys.exit(f'benchmarks.fidelity: {len(runs) - len(results)} runs are not done, so that nothing is written')
    description['commit'] = sorted({result['commit'] for result in results})  # some may have been done before
    found = combine(results) if args.grid else {'rows': [row for result in results for row in result['rows']]}
    write_result(args.out or RESULTS / f'{name}.json', {**description, **wall_time(), **found})


if __name__ == '__main__':
    main()
