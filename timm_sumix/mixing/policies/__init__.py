"""The mixing policies: one file each, on one base class."""
from typing import Any, Dict

from .base import Policy
from .cutmix import CutMix
from .fmix import FMix
from .gridmix import GridMix
from .mixup import MixUp
from .resizemix import ResizeMix
from .saliencymix import SaliencyMix
from .smoothmix import SmoothMix

POLICIES: Dict[str, Any] = {  # name: a dataclass that is a Policy
    'mixup': MixUp,
    'cutmix': CutMix,
    'saliencymix': SaliencyMix,
    'fmix': FMix,
    'resizemix': ResizeMix,
    'gridmix': GridMix,
    'smoothmix': SmoothMix,
}


def create_policy(name: str, **kwargs: Any) -> Policy:
    """Create the policy of that name; unknown options are a ValueError that lists those it has."""
    options = list(vars(POLICIES[name]()))
    if unknown := [key for key in kwargs if key not in options]:
        raise ValueError(f'policy {name!r} has the options {options}, got {unknown}')
    return POLICIES[name](**kwargs)
