"""Several runs at a time, a process each."""
import multiprocessing
from typing import Any, Callable, Iterator, Sequence

from rich.progress import track


def run_jobs(function: Callable[[Any], Any], jobs: Sequence[Any], count: int, description: str) -> Iterator[Any]:
    """Yield function(job) for each job in their order, `count` at a time, with a progress bar.

    Args:
        function: A function of a module, so that a new process can import it.
        jobs: Its arguments.
        count: Number of processes.
        description: Text beside the bar.
    """
    with multiprocessing.get_context('spawn').Pool(count) as pool:
        yield from track(pool.imap(function, jobs), total=len(jobs), description=description)
