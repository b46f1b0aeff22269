"""Adds `--sumix` to timm's own train.py: python -m train_patch path/to/train.py [its arguments] --sumix."""
