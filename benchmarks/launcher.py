"""train_patch, with the models of benchmarks/models.py registered for --model.

python -m benchmarks.launcher SCRIPT [the script's own arguments] [--sumix ...]

SCRIPT may be any that takes timm's model names, also timm's validate.py.
"""
from train_patch.__main__ import main

from . import models  # noqa: F401 (registers them with timm)

if __name__ == '__main__':
    main()
