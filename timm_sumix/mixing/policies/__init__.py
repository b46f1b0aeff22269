"""The mixing policies: one file each, on one base class."""
from dataclasses import fields
from typing import Any, Dict, List, Optional, Sequence, Union

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


def policy_names(policy: Union[str, Sequence[str]]) -> List[str]:
    """Return one or several policy names as a list, or raise a ValueError that lists those there are."""
    names = [policy] if isinstance(policy, str) else list(policy)
    unknown = [name for name in names if name not in POLICIES]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(f'policy must name one or more of {list(POLICIES)}, each once, got {policy!r}')
    return names


def create_policy(name: str, **kwargs: Any) -> Policy:
    """Create the policy of that name; unknown options are a ValueError that lists those it has."""
    options = list(default_options(policy_names(name)[0]))
    unknown = [key for key in kwargs if key not in options]
    if unknown:
        raise ValueError(f'policy {name!r} has the options {options}, got {unknown}')
    return POLICIES[name](**kwargs)


def default_options(name: str) -> Dict[str, Any]:
    """Return the options of the policy of that name with their defaults."""
    return {option.name: option.default for option in fields(POLICIES[name])}


def split_kwargs(names: Sequence[str], policy_kwargs: Optional[Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    """Return the options of each policy by name: given flat for a single policy, by name for several."""
    if not policy_kwargs:
        return {}
    if len(names) == 1 and names[0] not in policy_kwargs:
        return {names[0]: policy_kwargs}
    unknown = [key for key in policy_kwargs if key not in names]
    if unknown:
        raise ValueError(f'policy_kwargs must have the policies {list(names)} as keys, got {unknown}')
    return policy_kwargs
