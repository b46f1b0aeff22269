"""The -c file: the package's recipes by name, the types of its sumix keys, and whether SUMix is asked for."""
import argparse
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import yaml

from .errors import refuse

RECIPES = Path(__file__).parent / 'recipes'
OWN = 'sumix/'  # what the -c of such a recipe begins with
KEYS: Dict[str, Tuple[Any, ...]] = {  # key of the file: what it may be; [type]: a list of such
    'sumix': (bool,), 'sumix_preview': (int,), 'sumix_preset': (str,), 'sumix_ratio': (str, [float]),
    'sumix_strength': (float,), 'sumix_gamma': (float,), 'sumix_uncertainty': (str,), 'sumix_original_pass': (str,),
    'sumix_policy': (str, [str]), 'sumix_policy_probs': ([float],), 'sumix_policy_kwargs': (dict,),
    'sumix_masks': (str,),
}
WORDS = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'a name', dict: 'option: value pairs'}


def _path_and_rest(arguments: List[str]) -> Tuple[str, List[str]]:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('-c', '--config', default='')  # as timm's config_parser
    known, rest = parser.parse_known_args(arguments)
    return known.config, rest


def recipe_names() -> List[str]:
    """Return the package's recipes, as -c takes them."""
    return sorted(OWN + path.name for path in RECIPES.glob('*.yaml'))


def find_recipe(arguments: List[str]) -> List[str]:
    """Return the arguments with the file's path in place of -c sumix/NAME.yaml, unless that is a file of the user's."""
    path, rest = _path_and_rest(arguments)
    if not path.startswith(OWN) or os.path.isfile(path):
        return arguments
    if path not in recipe_names():
        refuse(f'-c {OWN}... must be one of {recipe_names()}, or a file, got {path!r}')
    return ['--config', str(RECIPES / path.removeprefix(OWN)), *rest]


def wants_sumix(arguments: List[str]) -> bool:
    """Whether --sumix, or sumix: true in the -c file, is given; exits if its options are wrong or without it."""
    config, rest = _config_and_rest(arguments)
    for key, value in config.items():
        if not str(key).lower().startswith('sumix'):
            continue
        if key not in KEYS:
            refuse(f'the config file has the key {key!r}, which is none of SUMix' + nearest(key.lower(), list(KEYS)))
        if value is not None and not any(_is_a(value, kind) for kind in KEYS[key]):
            words = [f'a list, each {WORDS[kind[0]]}' if isinstance(kind, list) else WORDS[kind] for kind in KEYS[key]]
            refuse(f'{key} must be {" or ".join(words)} in the config file, got {value!r}')
    if '--sumix' in rest or config.get('sumix'):
        return True
    options = [name for name in rest if name.startswith('--sumix')]
    options += [key for key in KEYS if key != 'sumix' and config.get(key)]
    if options and 'sumix' not in config:  # a saved args.yaml of a run without SUMix has sumix: false
        refuse(f'{", ".join(options)} has no effect without --sumix (or sumix: true in the -c file)')
    return False


def given_keys(arguments: List[str]) -> Set[str]:
    """Return the settings that are given, by a flag or in the -c file."""
    config, rest = _config_and_rest(arguments)
    return {name[2:].partition('=')[0].replace('-', '_') for name in rest if name.startswith('--')} | set(config)


def nearest(name: str, known: List[str]) -> str:
    """Return ', did you mean NAME?' with the most similar known name, '' if none is similar."""
    return ''.join(f', did you mean {match}?' for match in get_close_matches(name, known, 1))


def _is_a(value: Any, kind: Any) -> bool:
    if isinstance(kind, list):
        return isinstance(value, list) and all(_is_a(each, kind[0]) for each in value)
    return type(value) in ((int, float) if kind is float else (kind,))  # a bool is no number


def _config_and_rest(arguments: List[str]) -> Tuple[Dict[str, Any], List[str]]:
    path, rest = _path_and_rest(arguments)
    try:
        config = yaml.safe_load(Path(path).read_text()) if path else {}
    except (OSError, yaml.YAMLError) as error:
        refuse(f'cannot read the config file: {error}')
    if not isinstance(config, dict):
        refuse(f'the config file must hold key: value pairs, {path} does not')
    return config, rest
