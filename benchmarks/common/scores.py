"""How good a classifier is, and how near a label is to the truth: each score is computed here alone."""
import math
from typing import Dict

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torchmetrics.functional import spearman_corrcoef
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

BINS = 15  # of the expected calibration error
LOG_BOUNDS = (-3., 3.)  # of the natural logarithm of a temperature


def classification(logits: torch.Tensor, labels: torch.Tensor) -> Dict[str, float]:
    """Return 'top1' (percent), 'nll' (nats) and 'ece' (calibration error, percent) of logits [N, C] for labels [N]."""
    probabilities, classes = logits.softmax(-1), logits.shape[1]
    return {
        'top1': 100 * multiclass_accuracy(logits, labels, num_classes=classes, average='micro').item(),
        'nll': F.cross_entropy(logits, labels).item(),
        'ece': 100 * multiclass_calibration_error(probabilities, labels, num_classes=classes, n_bins=BINS).item()}


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the temperature by which logits [N, C] are divided for the least NLL of labels [N]."""
    found = minimize_scalar(
        lambda log: F.cross_entropy(logits / math.exp(log), labels).item(), bounds=LOG_BOUNDS, method='bounded')
    return math.exp(found.x)


def calibrated(logits: torch.Tensor, labels: torch.Tensor) -> Dict[str, float]:
    """Return a classifier's NLL and ECE once it is calibrated by a temperature.

    On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599. The temperature is fitted on
    every second image and used on the others, and the other way round, so that no image is scored by a temperature
    that it helped to fit. Returns 'temperature' (mean of both), 'nll' and 'ece' of all images.
    """
    scaled, temperatures = torch.empty_like(logits), []
    for own, other in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        temperatures.append(fit_temperature(logits[other], labels[other]))
        scaled[own] = logits[own] / temperatures[-1]
    scores = classification(scaled, labels)
    return {'temperature': sum(temperatures) / 2, 'nll': scores['nll'], 'ece': scores['ece']}


def agreement(label: torch.Tensor, true: torch.Tensor) -> Dict[str, float]:
    """Return how near shares of the first images [N] are to the true ones [N], all in [0, 1].

    'spearman': rank correlation, in [-1, 1]; 'mae': mean absolute error; 'calibration': absolute difference between
    mean label and mean truth in ten bins of the label, weighted by the samples of each.
    """
    bins = (label * 10).long().clamp(max=9)
    gaps = [(label[bins == b] - true[bins == b]).sum().abs() for b in range(10)]
    return {
        'spearman': spearman_corrcoef(label, true).item(),
        'mae': (label - true).abs().mean().item(),
        'calibration': (sum(gaps) / len(label)).item(),
    }
