"""Command line: python -m train_patch SCRIPT [the script's arguments] [--sumix ...], also under torchrun -m."""
import os
import runpy
import sys
from typing import Any, Dict, List

import yaml

from .config import config_and_rest, find_recipe, recipe_names

USAGE = """usage: python -m train_patch SCRIPT [the script's own arguments] [--sumix ...]

SCRIPT is timm's train.py (timm 1.0.27 or newer) or one with the same module-level names.
Without --sumix it runs as if started directly. With it, labels are corrected:
  python -m train_patch SCRIPT --sumix --help    lists the script's options and those of SUMix
  python -m train_patch SCRIPT -c sumix/NAME.yaml    trains by a recipe of the package: {}"""
HELP = ('-h', '--help')


def main() -> None:
    """Run the script, with SUMix if its arguments or its YAML config ask for it."""
    usage = USAGE.format(', '.join(recipe_names()))
    if len(sys.argv) < 2 or sys.argv[1] in HELP:
        print(usage)
        sys.exit(0 if len(sys.argv) > 1 else 2)
    script = sys.argv[1]
    if not os.path.isfile(script):
        sys.exit(f'train_patch: the first argument must be a train script, {script!r} is no file\n\n{usage}')
    # what Python sets up for a script that is started directly; worker processes need the old entries too
    sys.argv = [script, *find_recipe(sys.argv[2:])]
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    if wants_sumix(sys.argv[1:]):
        _run_with_sumix(script)
    else:
        _run_directly(script)


def _run_with_sumix(script: str) -> None:
    from .versions import check_timm  # only now: timm is the one that the script gets, and older ones lack timm.task
    check_timm()
    from .patch import run_with_sumix
    run_with_sumix(script)


def _run_directly(script: str) -> None:
    try:
        runpy.run_path(script, run_name='__main__')
    except SystemExit as end:
        if not end.code and set(HELP) & set(sys.argv[1:]):
            print(f'\nThe --sumix flags: python -m train_patch {script} --sumix --help')
        raise


def wants_sumix(arguments: List[str]) -> bool:
    """Whether --sumix, or sumix: true in the -c file, is given; exits if its options are given without it."""
    path, arguments = config_and_rest(arguments)
    config = _read_config(path) if path else {}
    if config.get('sumix') not in (None, True, False):
        sys.exit(f'train_patch: sumix must be true or false in the config file, got {config["sumix"]!r}')
    if '--sumix' in arguments or config.get('sumix'):
        return True
    options = [name for name in arguments if name.startswith('--sumix')]
    options += [key for key, value in config.items() if key.startswith('sumix') and key != 'sumix' and value]
    if options and 'sumix' not in config:  # a saved args.yaml of a run without SUMix has sumix: false
        sys.exit(f'train_patch: {", ".join(options)} has no effect without --sumix (or sumix: true in the -c file)')
    return False


def _read_config(path: str) -> Dict[str, Any]:
    try:
        with open(path) as file:
            config = yaml.safe_load(file)
    except (OSError, yaml.YAMLError) as error:
        sys.exit(f'train_patch: cannot read the config file: {error}')
    if not isinstance(config, dict):
        sys.exit(f'train_patch: the config file must hold key: value pairs, {path} does not')
    return config


if __name__ == '__main__':
    main()
