"""The -c file of a run: which one is given, and the package's recipes, found by name from anywhere."""
import argparse
import os
import sys
from pathlib import Path
from typing import List, Tuple

RECIPES = Path(__file__).parent / 'recipes'
OWN = 'sumix/'  # what the -c of such a recipe begins with


def config_and_rest(arguments: List[str]) -> Tuple[str, List[str]]:
    """Return the -c file among a script's arguments, '' without one, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('-c', '--config', default='')  # as timm's config_parser
    known, rest = parser.parse_known_args(arguments)
    return known.config, rest


def recipe_names() -> List[str]:
    """Return the package's recipes, as -c takes them."""
    return sorted(OWN + path.name for path in RECIPES.glob('*.yaml'))


def find_recipe(arguments: List[str]) -> List[str]:
    """Return the arguments with the file's path in place of -c sumix/NAME.yaml, unless that is a file of the user's."""
    path, rest = config_and_rest(arguments)
    if not path.startswith(OWN) or os.path.isfile(path):
        return arguments
    if path not in recipe_names():
        sys.exit(f'train_patch: -c {OWN}... must be one of {recipe_names()}, or a file, got {path!r}')
    return ['--config', str(RECIPES / path.removeprefix(OWN)), *rest]
