"""One run of the comparison: training and scoring a model; and collecting the results of many."""
import json
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

import torch

from ..common.record import without_folders
from ..common.results import write_result
from ..common.scores import calibrated, classification
from ..data.lite0 import load_weights
from ..data.placed import ImageSet
from ..data.settings import SETTINGS, Setting, make_data
from ..labels.arms import ALL_ARMS, Arm
from ..labels.controls import RATIOS
from ..labels.labellers import LABELLERS, attention_labellers
from ..runs import Run, read_results
from ..training import LEARNING_RATES, MODELS, RECIPES, create_model, cutmix, predict, train
from .sets import Key


def create_run(key: Key, out: Path, data_dir: Optional[Path] = None) -> Run:
    """Return the run of a setting, arm and seed, below the folder of all runs; its photographs are in `data_dir`."""
    setting, arm, seed = key
    folder = f'{arm.replace(", ", "_").replace(" ", "-")}/seed{seed}'
    return Run(out / setting, folder, seed, make, (*key, data_dir))


def make(run: Run, device: torch.device) -> Dict[str, Any]:
    """Train one model, write its checkpoint, and return its result."""
    name, arm, seed, data_dir = run.what
    setting = SETTINGS[name]
    data = make_data(setting, seed, data_dir)
    torch.manual_seed(seed)
    model = create_model(setting.classes, **MODELS[setting.model])
    if setting.model == 'lite0':
        load_weights(model)
    teacher = None if ALL_ARMS[arm].teacher is None else _load_teacher(run, device)
    start = time.time()
    errors = train_arm(model, data.train, setting, ALL_ARMS[arm], setting.epochs, seed, device, teacher)
    seconds = time.time() - start
    torch.save({'state_dict': model.state_dict()}, run.folder / 'checkpoint.pth.tar')
    logits = predict(model, data.test.images)
    return {
        'setting': name, 'arm': arm, 'seed': seed, 'epochs': setting.epochs, 'seconds': seconds,
        'label_error': {'first epoch': errors[0], 'last epoch': errors[-1]},
        **classification(logits, data.test.labels), 'calibrated': calibrated(logits, data.test.labels)}


def train_arm(
        model: torch.nn.Module, data: ImageSet, setting: Setting, arm: Arm, epochs: int, seed: int,
        device: Union[str, torch.device] = 'cpu', teacher: Optional[torch.nn.Module] = None,
) -> List[Optional[float]]:
    """Train a model, in place, as an arm says; return the mean absolute error of its labels by epoch."""
    by_attention = arm.labeller == 'transmix'
    if by_attention and setting.model != 'vit':
        raise ValueError(f'labeller {arm.labeller!r} needs a setting with model vit, got {setting.model}')
    labellers = attention_labellers(model) if by_attention else LABELLERS
    mixup = cutmix(setting.classes, arm.prob, arm.smoothing, setting.mode, cutmix_alpha=setting.alpha)
    steps = epochs * (len(data.labels) // RECIPES[setting.recipe].batch_size)
    options = {**arm.options, **({} if arm.ratio is None else {'ratio': RATIOS[arm.ratio](steps)})}
    return train(
        model, data, mixup, epochs=epochs, seed=seed, lr=LEARNING_RATES[setting.model], recipe=RECIPES[setting.recipe],
        task_kwargs=options, labeller=labellers.get(arm.labeller), device=device, teacher=teacher,
        crop=setting.canvas if setting.is_real else None)


def _load_teacher(run: Run, device: torch.device) -> torch.nn.Module:
    """Return the model that the arm's teacher left; FileNotFoundError if it is not trained yet."""
    name, arm, seed, _ = run.what
    teacher = create_run((name, str(ALL_ARMS[arm].teacher), seed), run.group.parent)
    path = teacher.folder / 'checkpoint.pth.tar'
    if not path.is_file():
        raise FileNotFoundError(f'arm {arm!r} needs the model of arm {ALL_ARMS[arm].teacher!r}, {path}: train it first')
    model = create_model(SETTINGS[name].classes, **MODELS[SETTINGS[name].model])
    model.load_state_dict(torch.load(path, weights_only=True)['state_dict'])
    return model.to(device)


def collect(runs: Sequence[Run], path: Path) -> int:
    """Write the results of runs to one file, with all that made them, and return how many of them it lacks.

    Runs that the file already holds stay in it, unless they have been made again. Raises FileNotFoundError if none is
    done, ValueError if versions or devices differ among the runs.
    """
    found = {_key(result): result for result in json.loads(path.read_text())['runs']} if path.is_file() else {}
    found.update({_key(result): result for result in read_results(runs)})
    results = [{**result, 'command': without_folders(result['command'])} for result in found.values()]
    if not results:
        raise FileNotFoundError(f'--out must hold results of runs, there is none as {runs[0].result}')
    for key in ('versions', 'device'):
        if any(result[key] != results[0][key] for result in results):
            raise ValueError(
                f'{key} must be the same for all runs that {path} would hold, got several: make the older ones again')
    write_result(path, {
        'command': sorted({result['command'] for result in results}),
        'seed': sorted({result['seed'] for result in results}),
        'versions': results[0]['versions'],
        'commit': sorted({result['commit'] for result in results}),
        'device': results[0]['device'],
        'seconds': sum(result['seconds'] for result in results),
        'settings': {name: SETTINGS[name]._asdict() for name in dict.fromkeys(own['setting'] for own in results)},
        'runs': results})
    return sum(run.what[:3] not in found for run in runs)


def _key(result: Dict[str, Any]) -> Key:
    return result['setting'], result['arm'], result['seed']
