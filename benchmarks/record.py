"""What every result file says of how its figures were made."""
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Union

import timm
import torch

import timm_sumix

ROOT = Path(__file__).parent.parent


def describe_run(command: str, seed: int, device: Union[str, torch.device] = 'cpu') -> Dict[str, Any]:
    """Return what made the figures: command, seed, versions, commit ('+' where files had changed since) and device.

    Args:
        command: Name of the module that was run; its arguments are taken from the command line.
        seed: Seed of the run.
        device: Device of the run.
    """
    device = torch.device(device)
    on_gpu = device.type == 'cuda'
    return {
        'command': f'python -m {command} {shlex.join(sys.argv[1:])}'.rstrip(),
        'seed': seed,
        'versions': {'timm': timm.__version__, 'torch': torch.__version__, 'timm-sumix': timm_sumix.__version__},
        'commit': _git('rev-parse', '--short', 'HEAD') + ('+' if _git('status', '--porcelain', '-uno') else ''),
        'device': torch.cuda.get_device_name(device) if on_gpu else f'{device.type}, {os.cpu_count()} cores',
    }


def write_result(path: Union[str, Path], result: Dict[str, Any]) -> None:
    """Write a result as JSON."""
    with open(path, 'w') as file:
        json.dump(result, file, indent=2)
        file.write('\n')


def _git(*arguments: str) -> str:
    return subprocess.run(['git', *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()
