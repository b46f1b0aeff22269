"""What each of timm's architectures gets: one small model of each trains a step with the defaults.

    python -m benchmarks.zoo [--out benchmarks/results/zoo.json]

A step mixes two images of the size that the model was made for, and passes forward and backward; then its checkpoint is
loaded into a plain timm model. Models of more than 60 million parameters are on the meta device, where shapes alone are
computed.
"""
import argparse
import logging
from pathlib import Path
from typing import Any, Dict, List, Tuple

import timm
import torch
import yaml
from rich.progress import track

from timm_sumix import MixedTarget, SUMixMixup, SUMixTask
from timm_sumix.region import Mixing

from .common.record import describe_run, wall_time
from .common.results import RESULTS, ROOT, write_result

# {module of timm.models: its smallest model}; to find them takes minutes, as there are well over a thousand
MODELS: Dict[str, str] = yaml.safe_load((ROOT / 'benchmarks' / 'zoo_models.yaml').read_text())
MOST_PARAMETERS = 60_000_000
NUM_CLASSES = 10


def _create(name: str, meta: bool) -> torch.nn.Module:
    with torch.device('meta' if meta else 'cpu'):
        return timm.create_model(name, num_classes=NUM_CLASSES)


def measure(name: str) -> Dict[str, Any]:
    """Return what is read of a model, as 'map' [h, w] from 'source' and more; raises where a step fails.

    Steps are of ratio 'combined', which reads all, and of 'similarity' with the uncertainty term.
    """
    meta = sum(parameter.numel() for parameter in _create(name, meta=True).parameters()) > MOST_PARAMETERS
    model = _create(name, meta)
    size = list(model.pretrained_cfg['input_size'])
    places, module = _step(model, size, meta, ratio='combined')
    _step(model, size, meta, ratio='similarity', gamma=0.5)
    return {
        'model': name, 'size': size[1:], 'map': places, 'source': module.found.source,
        'has_others': module.found.has_others, 'reads_attention': module.reads_attention, 'meta': meta}


def _step(model: torch.nn.Module, size: List[int], meta: bool, **options: Any) -> Tuple[List[int], Any]:
    """Train a step in one pass; return the unmixed map's height and width, and the module; raises where it fails."""
    mixup = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode='pair', num_classes=NUM_CLASSES)
    task = SUMixTask(model, mixup, verbose=False, **options)
    mixed, target = mixup(torch.randn(2, *size), torch.arange(2))
    if meta:
        mixing = Mixing(2, target.mask.to('meta'), complementary=True)
        mixed, labels, lam = (part.to('meta') for part in (mixed, target.labels, target.lam))
        target = MixedTarget(labels, lam, NUM_CLASSES, mask=mixing)
    outputs: List[Any] = []
    task.get_trainable_module().register_forward_hook(lambda _, inputs, both: outputs.append(both[1]))
    loss = task(mixed, target)['loss']
    loss.backward()
    if not meta and not loss.isfinite():
        raise ValueError(f'the loss of {type(model).__name__} must be finite, got {loss}')
    _create(model.pretrained_cfg['architecture'], meta).load_state_dict(task.get_eval_model().state_dict())
    places = [] if outputs[0].evidence is None else list(outputs[0].evidence.shape[1:])
    return places, task.get_trainable_module()


def main() -> None:
    """Try all, and write what each gets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=RESULTS / 'zoo.json', help='result file')
    args = parser.parse_args()
    logging.getLogger('timm').setLevel(logging.ERROR)
    torch.manual_seed(0)
    models = {module: measure(name) for module, name in track(MODELS.items(), description='Architectures')}
    write_result(args.out, {**describe_run('benchmarks.zoo', 0), **wall_time(), 'architectures': models})


if __name__ == '__main__':
    main()
