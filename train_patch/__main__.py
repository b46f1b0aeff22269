"""Command line: python -m train_patch SCRIPT [the script's arguments] [--sumix ...], also under torchrun -m."""
import os
import runpy
import sys

from .config import find_recipe, recipe_names, wants_sumix
from .errors import check_timm, refuse

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
        refuse(f'the first argument must be a train script, {script!r} is no file\n\n{usage}')
    # what Python sets up for a script that is started directly; worker processes need the old entries too
    sys.argv = [script, *find_recipe(sys.argv[2:])]
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    if wants_sumix(sys.argv[1:]):
        check_timm()  # only now: timm is the one that the script gets, and older ones lack timm.task
        from .patch import run_with_sumix
        run_with_sumix(script)
        return
    try:
        runpy.run_path(script, run_name='__main__')
    except SystemExit as end:
        typos = [word for word in sys.argv[1:] if word.startswith('--su')]
        if end.code == 2 and typos:  # argparse's, where the script has no such flag
            refuse(f'{typos[0]}, did you mean --sumix?')
        raise
    finally:
        if set(HELP) & set(sys.argv[1:]):
            print(f'\nThe --sumix flags: python -m train_patch {script} --sumix --help')


if __name__ == '__main__':
    main()
