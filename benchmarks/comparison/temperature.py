"""Calibration by a temperature: what is left of a gain in NLL and ECE when every model is calibrated after training?

On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599
"""
import math
from typing import Any, Dict

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

from ..common.scores import classification
from ..data.settings import SETTINGS, make_data
from ..runs import Run
from ..training import MODELS, create_model, predict

LOG_BOUNDS = (-3., 3.)  # of the natural logarithm of the temperature


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the temperature by which logits [N, C] are divided for the least NLL of labels [N]."""
    found = minimize_scalar(
        lambda log: F.cross_entropy(logits / math.exp(log), labels).item(), bounds=LOG_BOUNDS, method='bounded')
    return math.exp(found.x)


def scale_run(run: Run) -> Dict[str, Any]:
    """Return a run's scores before and after; the temperature is fitted on one half of the test images.

    Returns:
        'temperature', and 'before' and 'after': scores on the other half, and with 'others' on each further test set.

    Raises:
        FileNotFoundError: If the run has no checkpoint.
    """
    name, arm, seed = run.what
    setting, path = SETTINGS[name], run.folder / 'checkpoint.pth.tar'
    if not path.is_file():
        raise FileNotFoundError(f'--out must hold the checkpoint of each run, there is no {path}')
    model = create_model(setting.classes, **MODELS[setting.model], checkpoint_path=str(path)).eval()
    data = make_data(setting, seed)
    logits, labels = predict(model, data.test.images), data.test.labels
    half = len(labels) // 2
    temperature = fit_temperature(logits[:half], labels[:half])
    tests = {None: (logits[half:], labels[half:]), **{
        part: (predict(model, own.images), own.labels) for part, own in data.others.items()}}

    def scores(divisor):
        found = {part: classification(own / divisor, right) for part, (own, right) in tests.items()}
        return {**found.pop(None), 'others': found}

    return {
        'setting': name, 'arm': arm, 'seed': seed, 'temperature': temperature, 'before': scores(1.),
        'after': scores(temperature)}
