"""The engine of all that is trained: a list of runs, several at a time, each of them made once.

A run leaves result.json in a folder of its own, and is not made again where that is there. Commands that share the
folders, on one machine or on many, divide the runs among them: a run that is being made is locked.

On a CPU each run has one core. On a GPU processes share it, since one small model does not fill it: training.train()
puts the data there, with autocast to bfloat16 and channels-last, and convolutions are chosen by trying.
"""
import fcntl
import itertools
import json
import multiprocessing
import os
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Union

import torch
from rich.progress import track

from .common.results import write_result

JOBS = {'cpu': 2, 'cuda': 4}  # runs at a time
DONE, DONE_BEFORE, TAKEN, NO_TIME = 'done', 'done before', 'another command is at it', 'not begun, would end too late'


class Run(NamedTuple):
    """One run."""
    group: Path  # folder of runs that take about equally long, such as those of a setting
    name: str  # its folder below that of its group
    seed: int
    # function of a module, so that a new process can import it: (run, device) -> its result
    make: Callable[['Run', torch.device], Dict[str, Any]]
    what: Any  # what the function needs to know

    @property
    def folder(self) -> Path:
        """Where the run leaves what it makes."""
        return self.group / self.name

    @property
    def result(self) -> Path:
        """Its result file, which is there once it is done."""
        return self.folder / 'result.json'


def make_runs(
        runs: Sequence[Run], made_by: Dict[str, Any], device: Union[str, torch.device] = 'cpu',
        jobs: Optional[int] = None, budget: Optional[float] = None,
) -> bool:
    """Make all runs that are not done, print how each went, and return whether none failed.

    Args:
        runs: The runs, in their order.
        made_by: What each result says of how it was made, where the run does not say it itself.
        device: Where.
        jobs: Number of processes; 1: this process. None: JOBS of the device.
        budget: Seconds from now. Runs are then made in the order of their seeds, and one is begun only if the longest
            of its group so far would end in time.
    """
    device, deadline = torch.device(device), None
    if budget is not None:
        runs, deadline = sorted(runs, key=lambda run: run.seed), time.time() + budget
    failed = False
    outcomes = _outcomes(runs, jobs or JOBS[device.type], made_by, device, deadline)
    for outcome, run in zip(track(outcomes, 'Runs', total=len(runs)), runs):
        print(f'{run.group.name}/{run.name}: {outcome}')
        failed |= outcome not in (DONE, DONE_BEFORE, TAKEN, NO_TIME)
    return not failed


def read_results(runs: Sequence[Run]) -> List[Dict[str, Any]]:
    """Return the results of those runs that are done."""
    return [json.loads(run.result.read_text()) for run in runs if run.result.is_file()]


def _outcomes(runs: Sequence[Run], jobs: int, *common: Any) -> Iterator[str]:
    same = map(itertools.repeat, common)
    if jobs == 1:
        yield from map(_make, runs, *same)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context('spawn')) as pool:
        yield from pool.map(_make, runs, *same)


def _make(run: Run, made_by: Dict[str, Any], device: torch.device, deadline: Optional[float]) -> str:
    """Make a run unless that is done, or another command does it, or there is no time; return how it went."""
    if run.result.is_file():
        return DONE_BEFORE
    if deadline is not None and time.time() + _longest(run.group) > deadline:
        return NO_TIME
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.folder / 'lock', 'w') as lock:
        # a training process that the run starts keeps it locked, should this process be killed
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return TAKEN
        if run.result.is_file():
            return DONE_BEFORE
        torch.set_num_threads(1)
        torch.backends.cudnn.benchmark = device.type == 'cuda'
        start = time.time()
        try:
            result = run.make(run, device)
        except Exception as error:  # the others go on
            log = run.folder / 'error.txt'
            log.write_text(traceback.format_exc())
            return f'failed, see {log}: {error}'
        temporary = run.result.with_suffix('.tmp')
        write_result(temporary, {**made_by, 'wall_s': round(time.time() - start, 1), **result})
        os.replace(temporary, run.result)
        return DONE


def _longest(group: Path) -> float:
    """Return the seconds of the longest run of a group that is done; 0 if none is."""
    results = (json.loads(path.read_text()) for path in group.rglob('result.json'))
    return max((result.get('wall_s') or 0. for result in results), default=0.)
