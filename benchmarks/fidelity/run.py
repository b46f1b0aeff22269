"""One scene from end to end: train its probe model, ask it, score every label."""
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import torch

from timm_sumix.mixing import MODES, POLICIES

from ..runs import Run
from ..training import cutmix
from .compare import compare, usable
from .grid import ask
from .photographs import ask_about_photographs
from .predictions import write_predictions
from .probe import ask_probe, rival_labellers, train_probe
from .scenes import Scene, make_data

IN_FULL = 'share 0.2'  # the scene that has modes, policies, sweeps and epochs too
MODE = 'pair'  # of the mixing, where nothing else is said


class Job(NamedTuple):
    """One scene with one seed.

    Args:
        name: Name of the scene.
        scene: The scene; None: photographs, of the kind of that name.
        images: Number of training images.
        epochs: Number of epochs.
        test_images: Number of test images.
        seed: Seed of data, model and mixing.
        predictions: Where to save a few predictions, if the scene is IN_FULL; None: nowhere.
        data_dir: Folder that holds Tiny-ImageNet.
        grid: Whether it is one of grid.KINDS.
    """
    name: str
    scene: Optional[Scene]
    images: int
    epochs: int
    test_images: int
    seed: int
    predictions: Optional[Path] = None
    data_dir: Optional[Path] = None
    grid: bool = False


def create_run(job: Job, out: Path) -> Run:
    """Return the run of a scene, whose folder says all that its scores depend on."""
    asks_published = job.scene is None and not job.name.startswith('drawn')
    size = f'{job.test_images}' if asks_published else f'{job.images}x{job.epochs}-{job.test_images}'
    out = out / 'grid' if job.grid else out
    return Run(out / job.name.replace(', ', '_').replace(' ', '-'), f'{size}/seed{job.seed}', job.seed, make, job)


def make(run: Run, device: torch.device) -> Dict[str, Any]:
    """Return {'rows': scores}, made on the CPU."""
    job = run.what
    if job.grid:
        return ask(job.name, job.data_dir, job.test_images, job.images, job.epochs, job.seed)
    return {'rows': (
        ask_about_photographs(job.name, job.test_images, job.seed) if job.scene is None else ask_about_scene(job))}


def ask_about_scene(job: Job) -> List[Dict[str, Any]]:
    """Train a scene's probe model and return rows of scores."""
    name, scene, images, epochs, test_images, seed, predictions, *_ = job
    data, test = make_data(scene, images, test_images, seed)
    in_full, rows = name == IN_FULL, []

    def add(part: str, results: List[Dict[str, Any]], **more: Any) -> None:
        rows.extend({'scene': name, 'seed': seed, 'part': part, **more, **row} for row in results)

    def after_epoch(model, epoch):
        if in_full and epoch in (1, 2, 3, 5, 8, 12, epochs):
            answers = ask_probe(model, test, cutmix(scene.classes, mode=MODE), seed, rival_labellers(scene, model))
            add('epochs', compare(*answers), epoch=epoch)

    model, top1 = train_probe(scene, data, test, epochs, seed, after_epoch)
    rivals = rival_labellers(scene, model)
    batches, shares = ask_probe(model, test, cutmix(scene.classes, mode=MODE), seed, rivals)
    invisible = torch.cat([batch.true.isnan() for batch in batches]).float().mean().item()
    add('scene', compare(batches, shares), top1=top1, pairs=int(usable(batches).sum()), neither_visible=invisible)
    if in_full:
        add('strengths', compare(batches, {}, sweep=True))
        for mode in MODES:
            answers = ask_probe(model, test, cutmix(scene.classes, mode=mode), seed, rivals)
            add('modes', compare(*answers), mode=mode)
        for policy in POLICIES:
            alpha = {} if policy == 'smoothmix' else {'alpha': 1.}
            mixup = cutmix(scene.classes, mode=MODE, policy=policy, policy_kwargs=alpha)
            add('policies', compare(*ask_probe(model, test, mixup, seed, rivals)), policy=policy)
        if predictions is not None:
            write_predictions(predictions, batches[:3])
    return rows
