"""What every result file says of how its figures were made."""
import os
import re
import shlex
import subprocess
import sys
import time
from typing import Any, Dict, List, Union

import timm
import torch

import timm_sumix

from .results import ROOT

_BEGAN = time.monotonic()


def describe_run(command: str, seed: Union[int, List[int]], device: Union[str, torch.device] = 'cpu') -> Dict[str, Any]:
    """Return what made the figures: command, seed, versions, commit ('+' where files had changed since) and device.

    `command` is the name of the module that was run; its arguments are taken from the command line.
    """
    device = torch.device(device)
    on_gpu = device.type == 'cuda'
    return {
        'command': without_folders(f'python -m {command} {shlex.join(sys.argv[1:])}'),
        'seed': seed,
        'versions': {'timm': timm.__version__, 'torch': torch.__version__, 'timm-sumix': timm_sumix.__version__},
        'commit': _git('rev-parse', '--short', 'HEAD') + ('+' if _git('status', '--porcelain', '-uno') else ''),
        'device': torch.cuda.get_device_name(device) if on_gpu else f'{device.type}, {os.cpu_count()} cores',
    }


def without_folders(command: str) -> str:
    """Return a command line without the folders of the machine that ran it, which change no figure."""
    return re.sub(r' --(data-dir|out|runs) \S+', '', command).rstrip()


def wall_time() -> Dict[str, float]:
    """Return {'wall_s': seconds since this command began}."""
    return {'wall_s': round(time.monotonic() - _BEGAN, 1)}


def _git(*arguments: str) -> str:
    return subprocess.run(['git', *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()
