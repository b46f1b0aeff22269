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
import fnmatch
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from timm_sumix.ratio import RATIOS

from .local_data import prepare
from .record import ROOT, describe_run, write_result
from .render import render

HERE = Path(__file__).parent
DEFINITION = yaml.safe_load((HERE / 'paper_tables.yaml').read_text())
TABLES = DEFINITION['tables']
LOCAL = ('placed_fashion', 'fashion_mnist')
FOLDERS = 'train/CLASS/IMAGE and validation/CLASS/IMAGE (or val/)'
# table: what --data-dir must hold, and where it comes from
SOURCES = {
    'imagenet': (FOLDERS, 'https://image-net.org/download.php'),
    'rsb': (FOLDERS, 'https://image-net.org/download.php'),
    'cifar100': ('cifar-100-python/{train,test,meta}', 'https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz'),
    'tiny_imagenet': (
        f'{FOLDERS}; the validation images sorted into folders by val_annotations.txt',
        'http://cs231n.stanford.edu/tiny-imagenet-200.zip'),
    'cub200': (
        f'{FOLDERS}; sorted by train_test_split.txt', 'https://data.caltech.edu/records/65de6-vp158'),
    'fgvc_aircraft': (
        f'{FOLDERS}; sorted by images_variant_trainval.txt and images_variant_test.txt',
        'https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/'),
}


class Cell(NamedTuple):
    """One run: row (architecture), policy, arm ('base' or a ratio) and seed of a table."""
    table: str
    row: str
    policy: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """What --rows is matched against, and where the run lies below its table's folder."""
        return f'{self.row}/{self.policy}/{self.arm}/seed{self.seed}'


def cells(table: str, ratio: str, seeds: int, rows: Optional[List[str]] = None) -> List[Cell]:
    """Return the runs of a table, those of one seed together.

    Args:
        table: A table's name.
        ratio: Ratio of the SUMix arm.
        seeds: Number of seeds, counted from 0.
        rows: Shell patterns of cells to take, such as 'resnet18/cutmix*'; None: all.

    Raises:
        ValueError: If a pattern matches no cell.
    """
    found = [
        Cell(table, row, policy, arm, seed)
        for seed in range(seeds)
        for row, policies in TABLES[table].items()
        for policy in policies
        for arm in (['base'] if policy == 'vanilla' else ['base', ratio])
    ]
    if rows is None:
        return found
    for pattern in rows:
        if not any(_matches(cell, pattern) for cell in found):
            names = sorted({f'{cell.row}/{cell.policy}' for cell in found})
            raise ValueError(f'--rows {pattern!r} matches no run; there are {names}')
    return [cell for cell in found if any(_matches(cell, pattern) for pattern in rows)]


def _matches(cell: Cell, pattern: str) -> bool:
    return fnmatch.fnmatch(cell.name, pattern) or fnmatch.fnmatch(f'{cell.name}/', pattern.rstrip('/') + '/*')


def sumix_flags(cell: Cell) -> List[str]:
    """Return the launcher's flags of a cell.

    All arms of a policy mix by the same code; 'base' leaves labels as they are, without uncertainty term, and so needs
    no second pass. Images of the row 'vanilla' are not mixed.
    """
    if cell.policy == 'mixup+cutmix':  # by the recipe's own mixup and cutmix
        return [] if cell.arm == 'base' else ['--sumix', '--sumix-ratio', cell.arm]
    flags = ['--sumix']
    if cell.policy == 'vanilla':
        flags += ['--mixup-prob', '0']
    else:
        flags += ['--sumix-policy', cell.policy]
        alpha = DEFINITION['alpha'].get(cell.table)
        flags += ['--sumix-policy-kwargs', f'alpha={alpha}'] if alpha else []
    if cell.arm == 'base':
        return [*flags, '--sumix-ratio', 'area', '--sumix-gamma', '0']
    flags += ['--sumix-ratio', cell.arm]
    if cell.arm == 'released':
        settings = DEFINITION['released'][cell.table]
        flags += ['--sumix-gamma', str(settings['gamma']), '--sumix-uncertainty', settings['uncertainty']]
    return flags


def recipe(cell: Cell) -> Path:
    """Return the timm -c file of a cell."""
    return HERE / 'recipes' / f'{cell.table}-{cell.row}.yaml'


def command(cell: Cell, args: argparse.Namespace) -> List[str]:
    """Return the whole command of a cell; it resumes the run where there is a checkpoint of it."""
    launcher = ['-m', 'train_patch']
    batch = []
    settings = yaml.safe_load(recipe(cell).read_text())
    if settings.get('aug_repeats') and args.nproc == 1 and '--aug-repeats' not in args.further:
        raise ValueError(
            f'{recipe(cell).name} repeats augmentation, which timm does only in distributed runs: give --nproc 2')
    if args.nproc > 1:
        total = settings['batch_size']
        if total % args.nproc:
            raise ValueError(f'--nproc must divide the batch size {total} of {recipe(cell).name}, got {args.nproc}')
        launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(args.nproc), *launcher]
        batch = ['--batch-size', str(total // args.nproc)]
    folder = run_folder(cell, args.out)
    checkpoint = folder / 'last.pth.tar'
    return [
        sys.executable, *launcher, str(args.train_script), '-c', str(recipe(cell)), '--data-dir',
        str(data_folder(cell, args.data_dir)), '--seed', str(cell.seed), '--output', str(folder.parent),
        '--experiment', folder.name, '--checkpoint-hist', '1', *batch, *sumix_flags(cell),
        *(['--resume', str(checkpoint)] if checkpoint.is_file() else []), *args.further,
    ]


def run_folder(cell: Cell, out: Path) -> Path:
    """Return the folder of a run."""
    return out / cell.table / cell.name


def data_folder(cell: Cell, data_dir: Optional[Path]) -> Path:
    """Return the folder of a cell's data; that of the local tables depends on how many images a row takes."""
    if cell.table not in LOCAL:
        return data_dir
    return (data_dir or ROOT / '.data') / f'{cell.table}-{DEFINITION["images"][cell.row]["train"]}'


def check_data(table: str, data_dir: Optional[Path]) -> None:
    """Raise FileNotFoundError, which says what is expected and where to get it, unless the data is there."""
    if table in LOCAL:
        return
    layout, source = SOURCES[table]
    if data_dir is not None:
        names = ['cifar-100-python'] if table == 'cifar100' else ['train']
        found = all((data_dir / name).is_dir() for name in names)
        if found and (table == 'cifar100' or any((data_dir / name).is_dir() for name in ('validation', 'val'))):
            return
    raise FileNotFoundError(f'{table}: --data-dir must hold {layout}, got {data_dir}. The data comes from {source}')


def read_run(folder: Path) -> Optional[Dict]:
    """Return a run's top-1 figures, or None while it is not finished.

    Returns:
        'top1' is the median over the last epochs, as OpenMixup reports ResNets: 5 of 100, 10 of 200 or more; 'final' is
        that of the last epoch, and 'best', as OpenMixup reports transformers, that of the best, picked on test data.
    """
    try:
        settings = yaml.safe_load((folder / 'args.yaml').read_text())
        with open(folder / 'summary.csv') as file:
            lines = [row for row in csv.DictReader(file) if row['epoch'] != 'epoch']  # again after each resume
            rows = {int(row['epoch']): float(row['eval_top1']) for row in lines}  # an epoch begun anew counts once
    except (FileNotFoundError, ValueError, TypeError):
        return None
    epochs = settings['epochs'] + settings.get('cooldown_epochs', 0)
    if sorted(rows) != list(range(epochs)):
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
                    time.sleep(0.2)
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
                done, epochs = _progress(folder, cell)
                progress.update(
                    bar, completed=count + done / epochs, description=f'{cell.name}: epoch {done}/{epochs}')

            outcome = train(cell, args, tick)
            failed |= outcome.startswith('failed')
            console.print(f'{cell.name}: {outcome}')
            progress.update(bar, completed=count + 1)
    return not failed


def _progress(folder: Path, cell: Cell):
    try:
        epochs = yaml.safe_load((folder / 'args.yaml').read_text())['epochs']
        lines = (folder / 'summary.csv').read_text().splitlines()
        return len({line.split(',')[0] for line in lines} - {'epoch'}), epochs
    except (FileNotFoundError, TypeError):
        return 0, 1


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
        '--train-script', type=Path, default=HERE / 'train.py', help="timm's train.py (default: benchmarks/train.py)")
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
