"""The runs of a table: training what is not trained yet, and the figures of each run."""
import argparse
import csv
import fcntl
import os
import shlex
import statistics
import subprocess
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..common.record import describe_run
from ..common.results import ROOT, write_result
from .cells import Cell, command, run_folder


def read_epochs(folder: Path) -> Tuple[Dict, Dict[int, float]]:
    """Return a run's settings and {epoch: top-1} so far, both empty before its first epoch ends."""
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


def train(cell: Cell, args: argparse.Namespace, tick: Callable[[Path], None]) -> str:
    """Train a cell unless it is done, or another runner trains it.

    The training process inherits the lock, so that its run stays taken if this runner alone is killed.

    Args:
        cell: The run.
        args: The command line.
        tick: Called with the run's folder every second.

    Returns:
        The outcome: 'done', 'done before', 'another runner is at it', or 'failed, see LOG'.
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
            except BaseException:  # Ctrl-C too; no training may go on after the runner has ended
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
