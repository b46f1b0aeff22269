"""The runs of the comparison: which there are, making one, and collecting their results."""
import json
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch

from ..common.results import write_result
from ..common.scores import classification
from ..data.settings import SETTINGS, make_data
from ..labels.arms import ARMS, EVERYWHERE
from ..labels.labellers import LABELLERS
from ..training import create_model, cutmix, predict, train


def runs(settings: List[str], arms: Optional[List[str]], seeds: int) -> List[Tuple[str, str, int]]:
    """Return (setting, arm, seed) in the order in which they are made.

    Args:
        settings: Names of settings.
        arms: Names of arms, which are run in each setting. None: all arms in 'placed-14', a short list elsewhere.
        seeds: Number of seeds, counted from 0.
    """
    return [
        (setting, arm, seed)
        for setting in settings
        for seed in range(seeds)
        for arm in (arms or (ARMS if setting == 'placed-14' else [arm for arm in ARMS if arm in EVERYWHERE]))
    ]


def run_one(job: Tuple[str, str, int, Path, Dict[str, Any]]) -> None:
    """Train one model, unless its result is there; write its checkpoint and its result.

    Args:
        job: Setting, arm, seed, folder of all runs, and what the result says of how it was made.
    """
    name, arm, seed, out, made_by = job
    folder = run_folder(out, name, arm, seed)
    if (folder / 'result.json').is_file():
        return
    torch.set_num_threads(1)
    setting, options = SETTINGS[name], dict(ARMS[arm])
    labeller, factor = options.pop('labeller', None), options.pop('epochs', 1)
    data, test = make_data(setting, seed)
    torch.manual_seed(seed)
    model = create_model()
    mixup = cutmix(cutmix_alpha=setting.alpha, prob=0. if arm == 'none' else 1.)
    start, epochs = time.time(), round(setting.epochs * factor)
    train(model, data, mixup, epochs=epochs, seed=seed, task_kwargs=options, labeller=LABELLERS.get(labeller))
    seconds = time.time() - start
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': model.state_dict()}, folder / 'checkpoint.pth.tar')
    write_result(folder / 'result.json', {
        **made_by, 'setting': name, 'arm': arm, 'seed': seed, 'epochs': epochs, 'seconds': seconds,
        **classification(predict(model, test.images), test.labels)})


def run_folder(out: Path, setting: str, arm: str, seed: int) -> Path:
    """Return the folder of a run."""
    return out / setting / arm.replace(', ', '_').replace(' ', '-') / f'seed{seed}'


def collect(out: Path, path: Path) -> None:
    """Write the results of all runs to one file, with every command and commit that made some of them.

    Raises:
        FileNotFoundError: If there are no results.
        ValueError: If versions or devices differ among the runs.
    """
    results = [json.loads(result.read_text()) for result in sorted(out.glob('*/*/seed*/result.json'))]
    if not results:
        raise FileNotFoundError(f'--out must hold results of runs, {out} holds none')
    for key in ('versions', 'device'):
        if any(run[key] != results[0][key] for run in results):
            raise ValueError(f'{key} must be the same for all runs in {out}, got several: make the older ones again')
    write_result(path, {
        'command': sorted({run['command'] for run in results}),
        'seed': sorted({run['seed'] for run in results}),
        'versions': results[0]['versions'],
        'commit': sorted({run['commit'] for run in results}),
        'device': results[0]['device'],
        'settings': {name: setting._asdict() for name, setting in SETTINGS.items()},
        'runs': results})
