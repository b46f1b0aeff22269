"""Models trained with each kind of label, on data whose truth is known: which labels make better models?

python -m benchmarks.comparison [--settings S ...] [--arms A ...] [--seeds 3] [--jobs 2] [--out .comparison]
python -m benchmarks.comparison --collect benchmarks/results/comparison.json

Each run leaves a result and a plain timm checkpoint in its own folder; runs that are done are not repeated.
"""
import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import torch
from rich.progress import track
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from .local_data import plain
from .placed import DEBIAN_FOLDER, load_objects, place
from .record import ROOT, describe_run, write_result
from .rivals import RULES
from .training import ImageSet, create_model, cutmix, predict, to_image_set, train


class Setting(NamedTuple):
    """Data and schedule: object size in pixels on canvases of 32 (None: plain Fashion-MNIST, 28 x 28), and so on."""
    size: Any = 14
    images: int = 2000
    epochs: int = 40
    alpha: float = 1.


SETTINGS = {
    'placed-14': Setting(),
    'placed-22': Setting(size=22),
    'placed-32': Setting(size=32),
    'plain': Setting(size=None),
    'placed-14-alpha0.2': Setting(alpha=0.2),
    'placed-14-short': Setting(images=8000, epochs=5),
}

def _arm(ratio: str, gamma: float = 0., **kwargs) -> Dict[str, Any]:
    original_pass = {'original_pass': 'no-grad'} if gamma else {}
    return {'ratio': ratio, 'gamma': gamma, **original_pass, **kwargs}


# arm: arguments of SUMixTask, or (a rule of rivals.py, label or schedule that is no argument of it)
ARMS: Dict[str, Dict[str, Any]] = {
    'none': _arm('area'),
    'area': _arm('area'),
    'area, pass over originals': _arm('area', rule='pass'),
    'area, same time': _arm('area', epochs=1.4),
    'similarity': _arm('similarity'),
    'similarity, gamma 0.5': _arm('similarity', 0.5),
    'feature': _arm('feature'),
    'feature, gamma 0.5': _arm('feature', 0.5),
    'evidence': _arm('evidence'),
    'evidence 0': _arm('evidence', strength=0.),
    'evidence 1': _arm('evidence', strength=1.),
    'evidence 2': _arm('evidence', strength=2.),
    'evidence 8': _arm('evidence', strength=8.),
    'evidence 1, gamma 0.1': _arm('evidence', 0.1, strength=1.),
    'evidence 1, gamma 0.5': _arm('evidence', 0.5, strength=1.),
    'evidence 1, gamma 1': _arm('evidence', 1., strength=1.),
    'evidence 1, gamma 0.5, logits': _arm('evidence', 0.5, strength=1., uncertainty='logits'),
    'released': _arm('released', 0.5, original_pass='grad'),
    'snapmix': _arm('area', rule='snapmix'),
    'lumix': _arm('area', rule='lumix'),
    'true': _arm('area', rule='true'),
    'true, faded': _arm('area', rule='true, faded'),
    'evidence 1, faded': _arm('area', rule='evidence, faded'),
}
_EVERYWHERE = ('none', 'area', 'evidence', 'feature', 'evidence 0', 'evidence 1', 'evidence 8', 'true')
TEST_IMAGES = 5000


def runs(settings: List[str], arms: List[str], seeds: int) -> List[Tuple[str, str, int]]:
    """Return (setting, arm, seed) in the order in which they are made: all arms where mixing helps, then the others."""
    return [
        (setting, arm, seed)
        for setting in settings
        for seed in range(seeds)
        for arm in arms
        if setting == 'placed-14' or arm in _EVERYWHERE
    ]


def make_data(setting: Setting, seed: int) -> Tuple[ImageSet, ImageSet]:
    """Return training and test images of a setting."""
    splits = load_objects(DEBIAN_FOLDER)[2:]
    counts = (setting.images, TEST_IMAGES)
    if setting.size is None:
        return tuple(to_image_set(plain(objects, count)) for objects, count in zip(splits, counts))
    return tuple(
        to_image_set(place(objects, count, size=setting.size, seed=2 * seed + part))
        for part, (objects, count) in enumerate(zip(splits, counts)))


def evaluate(model: torch.nn.Module, data: ImageSet) -> Dict[str, float]:
    """Return top-1 and calibration error (15 bins) in percent, and negative log-likelihood."""
    logits = predict(model, data.images)
    return {
        'top1': 100 * multiclass_accuracy(logits, data.labels, num_classes=10, average='micro').item(),
        'nll': torch.nn.functional.cross_entropy(logits, data.labels).item(),
        'ece': 100 * multiclass_calibration_error(logits.softmax(-1), data.labels, num_classes=10, n_bins=15).item(),
    }


def run_one(job: Tuple[str, str, int, Path, Dict[str, Any]]) -> None:
    """Train one model, unless its result is there; write checkpoint and result, with what the run was made by."""
    name, arm, seed, out, made_by = job
    folder = run_folder(out, name, arm, seed)
    if (folder / 'result.json').is_file():
        return
    torch.set_num_threads(1)
    setting, options = SETTINGS[name], dict(ARMS[arm])
    rule, factor = options.pop('rule', None), options.pop('epochs', 1)
    data, test = make_data(setting, seed)
    torch.manual_seed(seed)
    model = create_model()
    mixup = cutmix(cutmix_alpha=setting.alpha, prob=0. if arm == 'none' else 1.)
    start, epochs = time.time(), round(setting.epochs * factor)
    train(model, data, mixup, epochs=epochs, seed=seed, task_kwargs=options, rule=RULES.get(rule))
    seconds = time.time() - start
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': model.state_dict()}, folder / 'checkpoint.pth.tar')
    write_result(folder / 'result.json', {
        **made_by, 'setting': name, 'arm': arm, 'seed': seed, 'epochs': epochs, 'seconds': seconds,
        **evaluate(model, test)})


def run_folder(out: Path, setting: str, arm: str, seed: int) -> Path:
    """Return the folder of a run."""
    return out / setting / arm.replace(', ', '_').replace(' ', '-') / f'seed{seed}'


def collect(out: Path, path: Path) -> None:
    """Write the results of all runs to one file, with every command and commit that made some of them."""
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


def main() -> None:
    """Make the runs, or collect their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--settings', nargs='+', choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument('--arms', nargs='+', choices=list(ARMS), default=list(ARMS))
    parser.add_argument('--seeds', type=int, default=3, help='number of seeds, counted from 0 (default: 3)')
    parser.add_argument('--jobs', type=int, default=2, help='runs at a time, one thread each (default: 2)')
    parser.add_argument('--out', type=Path, default=ROOT / '.comparison', help='folder of the runs')
    parser.add_argument('--collect', type=Path, help='write the results of all runs in --out to this file instead')
    args = parser.parse_args()
    if args.collect:
        collect(args.out, args.collect)
        return
    description = describe_run('benchmarks.comparison', list(range(args.seeds)))
    jobs = [(*run, args.out, description) for run in runs(args.settings, args.arms, args.seeds)]
    with multiprocessing.get_context('spawn').Pool(args.jobs) as pool:
        for _ in track(pool.imap(run_one, jobs), total=len(jobs), description='Runs'):
            pass


if __name__ == '__main__':
    main()
