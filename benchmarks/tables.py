"""The paper's tables, one command each: train what is not trained yet, and compare with the paper's figures.

    python -m benchmarks.tables cifar100 --data-dir /data/cifar100 [--train-script timm/train.py] [--nproc 4]
    python -m benchmarks.tables imagenet --data-dir /data/imagenet --ratio released --rows 'resnet18/cutmix*'
    python -m benchmarks.tables cifar100 --data-dir /data/cifar100 --dry-run > jobs.txt
    python -m benchmarks.tables placed_fashion --rows 'wide_resnet10_1/*' --device cpu

Further arguments go to the train script (--device cpu, --workers 8, --amp). Every run has a folder of its own; a rerun
skips the finished and resumes the interrupted, and several runners, on one machine or on many that share the folder,
take what no other is at. --dry-run prints one command a line, for sbatch or xargs; runs that were started so are read
by the next call.
"""
import argparse
import csv
import fcntl
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from timm_sumix.correction import RATIOS

from .cells import DEFINITION, LOCAL, TABLES, Cell, cells, check_data, command, data_folder, run_folder
from .local_data import prepare
from .record import ROOT, describe_run, write_result
from .render import render


def read_epochs(folder: Path) -> Tuple[Dict, Dict[int, float]]:
    """Return a run's settings and {epoch: top-1} as far as it has come, both empty before its first epoch ends."""
    try:
        settings = yaml.safe_load((folder / 'args.yaml').read_text())
        with open(folder / 'summary.csv') as file:
            lines = [row for row in csv.DictReader(file) if row['epoch'] != 'epoch']  # again after each resume
        return settings, {int(row['epoch']): float(row['eval_top1']) for row in lines}  # one begun anew counts once
    except (FileNotFoundError, ValueError, TypeError):
        return {}, {}


def read_run(folder: Path) -> Optional[Dict]:
    """Return a run's top-1 figures, or None while it is not finished.

    Returns:
        'top1' is the median over the last epochs, as OpenMixup reports ResNets: 5 of 100, 10 of 200 or more; 'final' is
        that of the last epoch, and 'best', as OpenMixup reports transformers, that of the best, picked on test data.
    """
    settings, rows = read_epochs(folder)
    epochs = settings and settings['epochs'] + settings.get('cooldown_epochs', 0)
    if not settings or sorted(rows) != list(range(epochs)):
        return None
    tops = [rows[epoch] for epoch in range(epochs)]
    window = min(10, max(1, epochs // 20))
    return {
        'top1': statistics.median(tops[-window:]), 'final': tops[-1], 'best': max(tops), 'epochs': epochs,
        'model': settings['model'], 'device': settings['device']}


def finish(cell: Cell, args: argparse.Namespace, parts: List[str], seconds: Optional[float]) -> bool:
    """Write a finished run's result file; False if the run is not finished.

    Args:
        cell: The run.
        args: The command line.
        parts: The run's command.
        seconds: Wall time since the run was last started or resumed; None if it was run elsewhere.
    """
    folder = run_folder(cell, args.out)
    figures = read_run(folder)
    if figures is None:
        return False
    run = describe_run('train_patch', cell.seed, figures.pop('device'))
    run['command'] = shlex.join(['python', *parts[1:]]).replace(f'{ROOT}/', '')
    temporary = folder / 'result.json.tmp'
    write_result(temporary, {**run, **cell._asdict(), **figures, 'wall_s': seconds})
    os.replace(temporary, folder / 'result.json')
    return True


def train(cell: Cell, args: argparse.Namespace, tick) -> str:
    """Train a cell unless it is done, or another runner is at it, and return what became of it.

    The training process keeps the lock, so that it counts as running also where this runner alone was killed.
    """
    folder = run_folder(cell, args.out)
    if (folder / 'result.json').is_file():
        return 'done before'
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 'another runner is at it'
        parts = command(cell, args)
        if (folder / 'result.json').is_file() or finish(cell, args, parts, None):
            return 'done before'
        start = time.time()
        with open(folder / 'log.txt', 'a') as log:
            process = subprocess.Popen(
                parts, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, pass_fds=[lock.fileno()])
            try:
                while process.poll() is None:
                    tick(folder)
                    time.sleep(1.)
            except BaseException:  # Ctrl-C reaches the training too; nothing must go on behind the user's back
                process.terminate()
                process.wait()
                raise
        if process.returncode == 0 and finish(cell, args, parts, time.time() - start):
            return 'done'
        return f'failed, see {folder / "log.txt"}'


def run_all(todo: List[Cell], args: argparse.Namespace, console: Console) -> bool:
    """Train all cells with a progress bar, and return whether none failed."""
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    failed = False
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(args.table, total=len(todo))

        for count, cell in enumerate(todo):
            def tick(folder, count=count, cell=cell):
                settings, rows = read_epochs(folder)
                done, epochs = len(rows), settings.get('epochs', 1)
                progress.update(
                    bar, completed=count + done / epochs, description=f'{cell.name}: epoch {done}/{epochs}')

            outcome = train(cell, args, tick)
            failed |= outcome.startswith('failed')
            console.print(f'{cell.name}: {outcome}')
            progress.update(bar, completed=count + 1)
    return not failed


def read_results(folder: Path) -> Iterator[Dict]:
    """Yield all results below a folder."""
    for path in sorted(folder.rglob('*.json')):
        result = json.loads(path.read_text())
        yield from result.get('runs', [result])


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
    parser.add_argument('--render', type=Path, metavar='FOLDER', help='only render the results in FOLDER')
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
        except (FileNotFoundError, ValueError) as error:
            sys.exit(f'benchmarks.tables: {error}')
        if args.table in LOCAL:
            for folder, row in {data_folder(cell, args.data_dir): cell.row for cell in todo}.items():
                prepare(args.table, folder, **DEFINITION['images'][row])
        try:
            complete = run_all(todo, args, console)
        except KeyboardInterrupt:
            sys.exit('benchmarks.tables: interrupted; the same command goes on from the last checkpoint')
    results = [
        result for result in read_results(args.render or args.out / args.table) if result['table'] == args.table]
    if args.collect:
        write_result(args.collect, {'runs': results})
    print(render(args.table, TABLES[args.table], results, (args.render or args.out / args.table) / f'{args.table}.png'))
    if args.render is None and not complete:
        sys.exit(1)


if __name__ == '__main__':
    main()
