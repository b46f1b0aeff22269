"""One run of a table: a train script in a process of its own, and the run's figures."""
import argparse
import csv
import os
import shlex
import signal
import statistics
import subprocess
from pathlib import Path
from typing import Any, Dict, Optional

import torch
import yaml

from ..common.record import describe_run
from ..common.results import ROOT
from ..runs import Run
from .cells import Cell, command


def create_run(cell: Cell, args: argparse.Namespace) -> Run:
    """Return the run of a cell."""
    group = args.out / cell.table / cell.row
    return Run(group, cell.name.removeprefix(f'{cell.row}/'), cell.seed, make, (cell, args))


def make(run: Run, device: torch.device) -> Dict[str, Any]:
    """Train a cell, from its last checkpoint if there is one, and return its result; the device is the script's."""
    cell, args = run.what
    parts, elsewhere = command(cell, args), read_run(run.folder)  # trained by a command of --dry-run
    figures = elsewhere or _train(run.folder, parts)
    made_by = describe_run('train_patch', cell.seed, figures.pop('device'))
    made_by['command'] = shlex.join(['python', *parts[1:]]).replace(f'{ROOT}/', '')
    return {**made_by, **cell._asdict(), **figures, **({'wall_s': None} if elsewhere else {})}


def _train(folder: Path, parts: list) -> Dict[str, Any]:
    log = folder / 'log.txt'
    with open(log, 'a') as file:
        process = subprocess.Popen(
            parts, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, close_fds=False, start_new_session=True)
        try:
            failed = process.wait()
        except BaseException:  # Ctrl-C too; neither training nor its loaders may go on after the runner has ended
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    figures = None if failed else read_run(folder)
    if figures is None:
        raise RuntimeError(f'the training has not ended well, see {log}')
    return figures


def read_run(folder: Path) -> Optional[Dict[str, Any]]:
    """Return a run's figures, or None while it is not finished.

    'top1' is the median over the last epochs, as OpenMixup reports ResNets: 5 of 100, 10 of 200 or more.
    """
    try:
        settings = yaml.safe_load((folder / 'args.yaml').read_text())
        with open(folder / 'summary.csv') as file:
            lines = [row for row in csv.DictReader(file) if row['epoch'] != 'epoch']  # again after each resume
        rows = {int(row['epoch']): float(row['eval_top1']) for row in lines}  # an epoch begun anew counts once
    except (FileNotFoundError, ValueError, TypeError):  # it has not begun, or was killed while it wrote
        return None
    epochs = settings['epochs'] + settings.get('cooldown_epochs', 0)
    if sorted(rows) != list(range(epochs)):
        return None
    last = range(epochs - min(10, max(1, epochs // 20)), epochs)
    return {
        'top1': statistics.median(rows[epoch] for epoch in last), 'epochs': epochs, 'model': settings['model'],
        'device': settings['device']}
