"""Scores of models on clean and changed images."""
import argparse
from typing import Any, Dict, List

import torch
from rich.progress import track

from ..common.scores import BINS, classification, top1
from .changes import attack, corrupt, occlude
from .images import Images

STRENGTHS = (0.5, 1., 2., 4., 8.)  # of FGSM, in 255ths of the pixel range
DROPPED = tuple(round(0.1 * step, 1) for step in range(10))
SEVERITIES = (1, 3, 5)


@torch.no_grad()
def predict(model: torch.nn.Module, pixels: torch.Tensor, device: str) -> torch.Tensor:
    """Return logits [N, C] on the CPU."""
    return torch.cat([model(batch.to(device)).float().cpu() for batch in pixels.split(250)])


def clean_scores(logits: torch.Tensor, labels: torch.Tensor) -> Dict[str, Any]:
    """Return the scores of a classifier, and 'reliability': [confidence, accuracy, share] of each bin."""
    confidence, prediction = logits.softmax(-1).max(-1)
    right, bins = (prediction == labels).float(), (confidence * BINS).long().clamp(max=BINS - 1)
    diagram = [
        [confidence[bins == b].mean().item(), right[bins == b].mean().item(), (bins == b).float().mean().item()]
        for b in range(BINS) if (bins == b).any()]
    return {**classification(logits, labels), 'reliability': diagram}


def measure(
        models: Dict[str, torch.nn.Module],
        images: Images,
        corruptions: List[str],
        args: argparse.Namespace,
) -> List[Dict[str, Any]]:
    """Return a result for each model; every model sees the same occluded and corrupted images.

    Args:
        models: {checkpoint: model of images in [0, 1]}.
        images: Test images.
        corruptions: Names of common corruptions.
        args: The command line, for device and seed.
    """
    labels = images.labels
    rows = {name: {
        'checkpoint': name, **clean_scores(predict(model, images.pixels, args.device), labels),
        'fgsm': {s: top1(predict(model, attack(model, images, s / 255, args.device), args.device), labels)
                 for s in STRENGTHS},
        'occlusion': {}, 'corruptions': {}} for name, model in track(models.items(), 'Clean and FGSM')}
    for dropped in track(DROPPED, 'Occlusion'):
        pixels = occlude(images, dropped, args.seed)
        for name, model in models.items():
            rows[name]['occlusion'][dropped] = top1(predict(model, pixels, args.device), labels)
    for corruption in track(corruptions, 'Corruptions'):
        for severity in SEVERITIES:
            pixels = corrupt(images, corruption, severity, args.seed)
            for name, model in models.items():
                rows[name]['corruptions'].setdefault(corruption, {})[severity] = top1(
                    predict(model, pixels, args.device), labels)
    return list(rows.values())
