"""What each of timm's architectures gets: one small model of each trains a step with evidence of the mixed image alone.

    python -m benchmarks.zoo [--out benchmarks/results/zoo.json]

A step mixes two images of the size that the model was made for, and passes backward; then its checkpoint is loaded into
a plain timm model. Models of more than 60 million parameters are on the meta device, where shapes alone are computed.
"""
import argparse
import logging
from pathlib import Path
from typing import Any, Dict

import timm
import torch
from rich.progress import track
from timm.models import list_models, list_modules

from timm_sumix import SUMixMixup, SUMixTask
from timm_sumix.correction import create_ratio
from timm_sumix.passes import SUMixModule

from .common.record import describe_run
from .common.results import RESULTS, write_result

MOST_PARAMETERS = 60_000_000
NUM_CLASSES = 10


def smallest_models() -> Dict[str, str]:
    """Return {module of timm.models: the model of fewest parameters in it}, of the modules that have models."""
    smallest = {}
    for module in sorted(list_modules()):
        names = list_models(module=module)
        if names:
            smallest[module] = min(names, key=_number_of_parameters)
    return smallest


def _create_on_meta(name: str) -> torch.nn.Module:
    with torch.device('meta'):
        return timm.create_model(name, num_classes=NUM_CLASSES)


def _number_of_parameters(name: str) -> int:
    return sum(parameter.numel() for parameter in _create_on_meta(name).parameters())


def measure(name: str) -> Dict[str, Any]:
    """Return what a model gets: {'model', 'size', 'map': [h, w], 'source', 'meta'}; raises where a step fails."""
    meta = _number_of_parameters(name) > MOST_PARAMETERS
    model = _create_on_meta(name) if meta else timm.create_model(name, num_classes=NUM_CLASSES)
    size = list(model.pretrained_cfg['input_size'])
    images = torch.randn(2, *size, device='meta' if meta else None)
    module = SUMixModule(model, create_ratio('evidence', with_original=False))
    try:
        with torch.no_grad():
            evidence = module.eval()(images)[0].evidence
    except NotImplementedError as error:  # an encoder that timm has for other tasks
        return {'model': name, 'size': size[1:], 'map': None, 'source': str(error), 'meta': meta}
    if not meta:
        _train_a_step(name, model.train(), images)
    return {
        'model': name, 'size': size[1:], 'map': list(evidence.shape[1:]), 'source': module.map_source, 'meta': meta}


def _train_a_step(name: str, model: torch.nn.Module, images: torch.Tensor) -> None:
    mixup = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode='elem', num_classes=NUM_CLASSES)
    task = SUMixTask(model, mixup, ratio='evidence', original_pass='none', verbose=False)
    loss = task(images, torch.arange(2))['loss']
    loss.backward()
    if not loss.isfinite():
        raise ValueError(f'the loss of {name} must be finite, got {loss}')
    timm.create_model(name, num_classes=NUM_CLASSES).load_state_dict(task.get_eval_model().state_dict())


def main() -> None:
    """Try all, and write what each gets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=RESULTS / 'zoo.json', help='result file')
    args = parser.parse_args()
    logging.getLogger('timm').setLevel(logging.ERROR)
    torch.manual_seed(0)
    models = {
        module: measure(name) for module, name in track(smallest_models().items(), description='Architectures')}
    write_result(args.out, {**describe_run('benchmarks.zoo', 0), 'architectures': models})


if __name__ == '__main__':
    main()
