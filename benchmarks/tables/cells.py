"""The cells of the paper's tables: their runs, and the command of each."""
import argparse
import fnmatch
import sys
from pathlib import Path
from typing import List, NamedTuple, Optional

import yaml

from ..common.results import ROOT
from .table import DEFINITION, TABLES

RECIPES = ROOT / 'benchmarks' / 'recipes'


class Cell(NamedTuple):
    """One run: row (architecture), policy, arm ('base' or a ratio) and seed of a table."""
    table: str
    row: str
    policy: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Name that --rows is matched against; also the run's path below the folder of its table."""
        return f'{self.row}/{self.policy}/{self.arm}/seed{self.seed}'

    @property
    def recipe(self) -> Path:
        """Its timm -c file."""
        return RECIPES / f'{self.table}-{self.row}.yaml'


def cells(table: str, ratio: str, seeds: int, rows: Optional[List[str]] = None) -> List[Cell]:
    """Return the runs of a table, those of one seed together; `rows` are shell patterns, each of which must match."""
    found = [
        Cell(table, row, policy, arm, seed)
        for seed in range(seeds)
        for row, policies in TABLES[table].items()
        for policy in policies
        for arm in (['base'] if policy == 'vanilla' else ['base', ratio])
    ]
    for pattern in rows or []:
        if not any(_matches(cell, pattern) for cell in found):
            names = sorted({f'{cell.row}/{cell.policy}' for cell in found})
            raise ValueError(f'--rows {pattern!r} matches no run; there are {names}')
    return [cell for cell in found if rows is None or any(_matches(cell, pattern) for pattern in rows)]


def _matches(cell: Cell, pattern: str) -> bool:
    return fnmatch.fnmatch(cell.name, pattern) or fnmatch.fnmatch(f'{cell.name}/', pattern.rstrip('/') + '/*')


def sumix_flags(cell: Cell) -> List[str]:
    """Return the launcher's flags of a cell. All arms of a policy mix by the same code; 'vanilla' does not mix."""
    flags = ['--sumix']
    if cell.policy == 'vanilla':
        flags += ['--mixup-prob', '0']
    else:
        flags += ['--sumix-policy', cell.policy]
        alpha = DEFINITION['alpha'].get(cell.table, 0.2 if cell.policy == 'cutmix' else None)  # as the authors' code
        flags += ['--sumix-policy-kwargs', f'alpha={alpha}'] if alpha else []
    if cell.arm == 'base':
        return [*flags, '--sumix-ratio', 'area', '--sumix-gamma', '0']
    if cell.arm in ('combined', 'evidence'):  # this library's own, by its own defaults
        return [*flags, '--sumix-ratio', cell.arm]
    # the paper's method has the uncertainty term, in two passes, which is not the library's default
    settings = DEFINITION['released'][cell.table] if cell.arm == 'released' else {'gamma': 0.5, 'uncertainty': 'head'}
    return [
        *flags, '--sumix-ratio', cell.arm, '--sumix-gamma', str(settings['gamma']), '--sumix-uncertainty',
        settings['uncertainty'], '--sumix-original-pass', 'grad']


def command(cell: Cell, args: argparse.Namespace) -> List[str]:
    """Return the whole command of a cell; it resumes the run where there is a checkpoint of it."""
    launcher = ['-m', 'benchmarks.launcher']
    batch = []
    if args.nproc > 1:
        total = yaml.safe_load(cell.recipe.read_text())['batch_size']
        if total % args.nproc:
            raise ValueError(f'--nproc must divide the batch size {total} of {cell.recipe.name}, got {args.nproc}')
        launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(args.nproc), *launcher]
        batch = ['--batch-size', str(total // args.nproc)]
    folder = run_folder(cell, args.out)
    checkpoint = folder / 'last.pth.tar'
    return [
        sys.executable, *launcher, str(args.train_script), '-c', str(cell.recipe), '--data-dir',
        str(args.data_dir), '--seed', str(cell.seed), '--output', str(folder.parent),
        '--experiment', folder.name, '--checkpoint-hist', '1', *batch, *sumix_flags(cell),
        *(['--resume', str(checkpoint)] if checkpoint.is_file() else []), *args.further,
    ]


def run_folder(cell: Cell, out: Path) -> Path:
    """Return the folder of a run."""
    return out / cell.table / cell.name
