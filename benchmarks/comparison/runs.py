"""The runs of the comparison: making one, and collecting their results."""
import json
import time
from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

import torch

from ..common.results import write_result
from ..common.scores import classification
from ..data.images import ImageSet
from ..data.settings import SETTINGS, Setting, make_data
from ..labels.arms import ALL_ARMS, Arm
from ..labels.labellers import LABELLERS
from ..labels.losses import CRITERIA, EXTRAS
from ..labels.ratios import create_own_ratio
from ..labels.rivals import attention_labellers
from ..training import LEARNING_RATES, MODELS, RECIPES, create_model, cutmix, predict, train
from .sets import Run


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
    setting = SETTINGS[name]
    data = make_data(setting, seed)
    torch.manual_seed(seed)
    model = create_model(setting.classes, **MODELS[setting.model])
    start, epochs = time.time(), round(setting.epochs * ALL_ARMS[arm].epochs)
    train_arm(model, data.train, setting, ALL_ARMS[arm], epochs, seed)
    seconds = time.time() - start
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': model.state_dict()}, folder / 'checkpoint.pth.tar')
    scores = {part: classification(predict(model, own.images), own.labels) for part, own in data.others.items()}
    write_result(folder / 'result.json', {
        **made_by, 'setting': name, 'arm': arm, 'seed': seed, 'epochs': epochs, 'seconds': seconds,
        **classification(predict(model, data.test.images), data.test.labels), **({'others': scores} if scores else {})})


def train_arm(
        model: torch.nn.Module, data: ImageSet, setting: Setting, arm: Arm, epochs: int, seed: int) -> None:
    """Train a model, in place, as an arm says."""
    by_attention = arm.labeller == 'transmix'
    if by_attention and setting.model != 'vit':
        raise ValueError(f'labeller {arm.labeller!r} needs a setting with model vit, got {setting.model}')
    labellers = attention_labellers(model) if by_attention else LABELLERS
    mixup = cutmix(setting.classes, arm.prob, arm.smoothing, setting.mode, cutmix_alpha=setting.alpha)
    options = {**arm.options, **({} if arm.ratio is None else {'ratio': create_own_ratio(arm.ratio)})}
    train(
        model, data, mixup, epochs=epochs, seed=seed, lr=LEARNING_RATES[setting.model], recipe=RECIPES[setting.recipe],
        task_kwargs=options, labeller=labellers.get(arm.labeller), criterion=CRITERIA[arm.criterion](),
        extra=EXTRAS.get(arm.extra))


def run_folder(out: Path, setting: str, arm: str, seed: int) -> Path:
    """Return the folder of a run."""
    return out / setting / arm.replace(', ', '_').replace(' ', '-') / f'seed{seed}'


def collect(out: Path, chosen: Sequence[Run], path: Path) -> int:
    """Write the results of runs to one file, with every command and commit that made some of them.

    Runs that the file already holds stay in it, unless `out` has the same run.

    Args:
        out: Folder of all runs.
        chosen: Which to collect; those that are not done are left out.
        path: The file.

    Returns:
        How many of them the file lacks.

    Raises:
        FileNotFoundError: If none is done.
        ValueError: If versions or devices differ among the runs.
    """
    found = {_key(run): run for run in json.loads(path.read_text())['runs']} if path.is_file() else {}
    for run in chosen:
        file = run_folder(out, *run) / 'result.json'
        if file.is_file():
            found[run] = json.loads(file.read_text())
    results = list(found.values())
    if not results:
        raise FileNotFoundError(f'--out must hold results of runs, {out} holds none')
    for key in ('versions', 'device'):
        if any(run[key] != results[0][key] for run in results):
            raise ValueError(
                f'{key} must be the same for all runs of {out} and {path}, got several: make the older ones again')
    write_result(path, {
        'command': sorted({run['command'] for run in results}),
        'seed': sorted({run['seed'] for run in results}),
        'versions': results[0]['versions'],
        'commit': sorted({run['commit'] for run in results}),
        'device': results[0]['device'],
        'seconds': sum(run['seconds'] for run in results),
        'settings': {name: SETTINGS[name]._asdict() for name in dict.fromkeys(run['setting'] for run in results)},
        'runs': results})
    return sum(run not in found for run in chosen)


def _key(result: Dict[str, Any]) -> Run:
    return result['setting'], result['arm'], result['seed']
