"""One run of fidelity: labels of one kind of images, drawn by one seed."""
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import torch

from timm_sumix.mixing import POLICIES

from ..runs import Run
from ..training import cutmix
from . import kinds
from .compare import compare, usable
from .grid import DRAWN, score
from .kinds import CANVAS, CLASSES, PHOTOGRAPHS, TINY, Asked
from .predictions import write_predictions
from .probe import ask

IN_FULL = 'share 0.2'  # of the canvases, the kind that is mixed by all policies too


class Job(NamedTuple):
    """One kind of images with one seed."""
    name: str  # 'share S' (canvases), or one of kinds.TRANSFORMERS, kinds.PHOTOGRAPHS or grid.KINDS
    images: int  # training canvases
    epochs: int  # on these
    test_images: int  # that are asked about
    seed: int  # of data, model and mixing
    grid: bool = False  # whether labels are those of the grid
    data_dir: Optional[Path] = None  # folder that holds Tiny-ImageNet
    predictions: Optional[Path] = None  # where to save a few predictions, if the kind is IN_FULL; None: nowhere

    @property
    def is_trained(self) -> bool:
        """Whether a network is trained for it."""
        return self.name not in PHOTOGRAPHS and self.name != TINY


def create_run(job: Job, out: Path) -> Run:
    """Return the run of a job, whose folder says all that its scores depend on."""
    size = f'{job.images}x{job.epochs}-{job.test_images}' if job.is_trained else f'{job.test_images}'
    out = out / 'grid' if job.grid else out
    return Run(out / job.name.replace(', ', '_').replace(' ', '-'), f'{size}/seed{job.seed}', job.seed, make, job)


def find_asked(job: Job) -> Asked:
    """Return the network of a job and its images."""
    if job.name == TINY:
        return kinds.ask_of_tiny(job.data_dir)
    if job.name in PHOTOGRAPHS:
        return kinds.ask_of_photographs(PHOTOGRAPHS[job.name], job.test_images, job.seed)
    kind = kinds.Canvases((DRAWN[job.name] / CANVAS) ** 2) if job.name in DRAWN else kinds.canvases(job.name)
    return kinds.ask_of_canvases(kind, job.images, job.epochs, job.test_images, job.seed)


def make(run: Run, device: torch.device) -> Dict[str, Any]:
    """Return {'rows': scores}, or the scores of the grid, made on the CPU."""
    job = run.what
    asked = find_asked(job)
    if job.grid:
        return {'images': job.name, **score(ask(asked._replace(labellers={}), job.seed)[0])}
    batches, shares = ask(asked, job.seed)
    facts = {**asked.facts, 'pairs': int(usable(batches).sum())}
    if not job.is_trained:
        return {'rows': _rows(job, 'photographs', compare(batches, shares), images=job.name, **facts)}
    facts['neither_visible'] = torch.cat([batch.true.isnan() for batch in batches]).float().mean().item()
    rows = _rows(job, 'scene', compare(batches, shares), **facts)
    if job.name == IN_FULL:
        if job.predictions is not None:
            write_predictions(job.predictions, batches[:3])
        for policy in POLICIES:
            alpha = {} if policy == 'smoothmix' else {'alpha': 1.}
            mixup = cutmix(CLASSES, mode='pair', policy=policy, policy_kwargs=alpha)
            rows += _rows(job, 'policies', compare(*ask(asked._replace(mixup=mixup), job.seed)), policy=policy)
    return {'rows': rows}


def _rows(job: Job, part: str, rows: List[Dict[str, Any]], **facts: Any) -> List[Dict[str, Any]]:
    scene = job.name if job.is_trained else part
    return [{'scene': scene, 'seed': job.seed, 'part': part, **facts, **row} for row in rows]
