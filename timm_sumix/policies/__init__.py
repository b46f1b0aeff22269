"""Mixing policies: which part of a mixed image comes from the first image, which from its partner.

A policy is a frozen dataclass of options with two methods. Parameters are drawn first and applied after, so that a test
can put in its own:

    draw(count, x, rows) -> params   one row for each of `count` drawings, made on x's device without asking the host.
                                     The partner of x[i] is x[-1 - i]. A policy that looks at the images makes one for
                                     each of the first `rows` images instead (default: count)
    mask(params, x) -> mask, lam     mask [count, 1, H or 1, W or 1]: True (or 1.) where the first image stays;
                                     lam [count]: the share of the mask that is kept
    paste(params, partner)           only where the partner itself is changed (ResizeMix): returns it as it is pasted
    mix(params, x) -> mixed, lam     only where a CPU has a faster way than a mask (boxes)

Masks rather than mixed images are returned so that several policies can share one batch at the cost of one blend.
"""
from typing import Dict, List, Optional, Sequence, Union

from .cutmix import CutMix
from .fmix import FMix
from .gridmix import GridMix
from .mixup import MixUp
from .resizemix import ResizeMix
from .saliencymix import SaliencyMix
from .smoothmix import SmoothMix

POLICIES = {
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


def create_policy(name: str, **kwargs):
    """Create the policy of that name; unknown options are a ValueError that lists those it has."""
    options = POLICIES[policy_names(name)[0]].__dataclass_fields__
    unknown = [key for key in kwargs if key not in options]
    if unknown:
        raise ValueError(f'policy {name!r} has the options {list(options)}, got {unknown}')
    return POLICIES[name](**kwargs)


def split_kwargs(names: Sequence[str], policy_kwargs: Optional[Dict]) -> Dict[str, Dict]:
    """Return the options of each policy by name: given flat for a single policy, by name for several."""
    if not policy_kwargs:
        return {}
    if len(names) == 1 and names[0] not in policy_kwargs:
        return {names[0]: policy_kwargs}
    unknown = [key for key in policy_kwargs if key not in names]
    if unknown:
        raise ValueError(f'policy_kwargs must have the policies {list(names)} as keys, got {unknown}')
    return policy_kwargs
