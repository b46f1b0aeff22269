"""How many operations a step dispatches: on a GPU each is a kernel that is launched, whatever its size."""
from typing import Any, Dict, Sequence

from torch.utils._python_dispatch import TorchDispatchMode

from timm_sumix.mixing import MODES

from .steps import BASE, Workload, make_step

# how the names of those begin that launch nothing: views, and taking memory
_FREE = (
    'view', '_unsafe_view', 'reshape', 'expand', 'permute', 'transpose', 't.', 'unsqueeze', 'squeeze', 'slice',
    'select', 'detach', 'alias', 'unbind', 'as_strided', 'split', 'empty')


class _Counter(TorchDispatchMode):
    """Counts the operations that are dispatched under it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not function.name().split('::')[1].startswith(_FREE)
        return function(*args, **(kwargs or {}))


def count_operations(work: Workload, setting: str) -> int:
    """Return how many operations a training step dispatches, forward, backward and optimizer.

    Args:
        work: What it works on; its size hardly matters.
        setting: BASE, or a key of SETTINGS.
    """
    step = make_step(work, setting)
    step()  # the optimizer makes its state
    with _Counter() as counter:
        step()
    return counter.count


def operations(work: Workload, settings: Sequence[str]) -> Dict[str, Dict[str, int]]:
    """Return how many operations a step of each setting dispatches, by mode of mixing: {setting: {mode: count}}."""
    return {
        setting: {mode: count_operations(work._replace(mode=mode), setting) for mode in MODES}
        for setting in (BASE, *settings)}
