"""The sets of runs, each of which is one command and one result file."""
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..labels.arms import DISTILLED, ONE_EACH, UNMIXING, WEIGHTS, weights_name


class Part(NamedTuple):
    """Arms that are run in a setting, each with seeds counted from 0."""
    setting: str
    arms: Sequence[str]
    seeds: int


# the question that decides the default: do corrected labels make better models of real photographs?
REAL = ('none', 'area', 'combined', 'similarity')
TRANSFORMERS = ('none', 'area', 'transmix', 'evidence')  # to which 'similarity' comes, too, with a class token
SETS: Dict[str, List[Part]] = {
    'real': [Part(name, REAL, 3) for name in ('cifar100', 'caltech101')],
    'strengths': [Part('cifar100-2000', ('area', *map(weights_name, WEIGHTS), 'similarity, growing'), 1)],
    'unmixing': [
        Part('placed-14-wide', UNMIXING, 3),
        Part('resnet18-narrow', UNMIXING, 3),
        Part('resnet18-narrow-sizes', ONE_EACH, 3)],
    'common': [
        Part('resnet18', UNMIXING, 3),
        Part('resnet18-sizes', (*ONE_EACH, 'combined 2'), 3),
        Part('resnet18-alpha0.2', ONE_EACH[1:], 3),  # without mixing it is the first setting
        Part('resnet18-plain', ('none', 'area', 'combined', 'evidence'), 3)],
    'transformers': [
        Part('cifar100-vit', TRANSFORMERS, 3),
        Part('caltech101-vit', ('none', 'area', 'evidence'), 1),
        Part('placed-sizes-vit', (*TRANSFORMERS, 'true'), 1)],
    # the first are the teachers
    'distillation': [Part('resnet18-narrow', ('none', 'area', 'combined', *DISTILLED), 3)],
    'fine-tuning': [Part('lite0-photographs', ONE_EACH, 3)],
}
Key = Tuple[str, str, int]  # setting, arm, seed


def keys(
        name: str, settings: Optional[Sequence[str]] = None, arms: Optional[Sequence[str]] = None,
        seeds: Optional[int] = None,
) -> List[Key]:
    """Return (setting, arm, seed) of one of SETS in their order, settings, arms and seeds in place of the set's own."""
    parts = {part.setting: part for part in SETS[name]}
    chosen = settings or list(parts)
    unknown = [setting for setting in chosen if setting not in parts]
    if unknown and arms is None:
        raise ValueError(f'--settings must be among {list(parts)} for set {name!r}, got {unknown}: give --arms too')
    return [
        (setting, arm, seed)
        for setting in chosen
        for seed in range(seeds or parts.get(setting, Part(setting, (), 3)).seeds)
        for arm in (arms or parts[setting].arms)]
