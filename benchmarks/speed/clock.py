"""Time and memory of calls that are compared: they take turns, so that a slow moment hits all of them."""
import statistics
import time
from typing import Callable, Dict, List

import torch
from rich.progress import track
from torch.profiler import ProfilerActivity, profile

Calls = Dict[str, Callable[[], object]]
Row = Dict[str, float]


def take_turns(calls: Calls, device: torch.device, repeats: int) -> Dict[str, List[float]]:
    """Return the times of each call in ms [repeats], after one call of each that is not counted."""
    times: Dict[str, List[float]] = {name: [] for name in calls}
    names = list(calls)
    for call in calls.values():
        call()
    for turn in track(range(repeats), description='repeats', transient=True):
        first = turn % len(names)  # none always runs after the same other one
        for name in names[first:] + names[:first]:
            synchronize(device)
            start = time.perf_counter()
            calls[name]()
            synchronize(device)
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def compare_times(times: Dict[str, List[float]], base: str) -> Dict[str, Row]:
    """Return {'ms', 'ratio', 'low', 'high'} of each call: median time, median and quartiles over base's by turn."""
    rows = {}
    for name, values in times.items():
        low, ratio, high = statistics.quantiles(
            [own / other for own, other in zip(values, times[base])], n=4, method='inclusive')
        rows[name] = {'ms': statistics.median(values), 'ratio': ratio, 'low': low, 'high': high}
    return rows


def compare(calls: Calls, base: str, device: torch.device, repeats: int) -> Dict[str, Row]:
    """Return what compare_times says of calls that take turns."""
    return compare_times(take_turns(calls, device, repeats), base)


def peak_memory(call: Callable[[], object], device: torch.device) -> int:
    """Return by how many bytes the memory of tensors grows at most in a call."""
    if device.type == 'cuda':
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        call()
    # the averages of torch.profiler know no peak: add up what was taken and given back, in order
    events = [event for event in run.profiler.kineto_results.events() if event.name() == '[memory]']
    grown = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        grown += event.nbytes()
        peak = max(peak, grown)
    return peak
