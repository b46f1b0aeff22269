"""Small models trained in memory, by the library's own task, for the benchmarks that need many of them."""
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import timm
import torch
import torch.nn.functional as F
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import LogitDistillationTask
from timm.utils import random_seed

from timm_sumix import MixedTarget, SUMixDistillationTask, SUMixMixup, SUMixTask

from . import models  # noqa: F401 (registers them with timm)
from .data import lite0
from .data.placed import ImageSet
from .labels.labellers import Labeller
from .labels.truth import comparable, true_shares

# stem of stride 2, no stride in the last stage: fast enough for a CPU, and maps of 8 x 8 places for 32 x 32 pixels
SMALL_MODEL = {'model_name': 'wide_resnet10_1', 'stem_stride': 2, 'output_stride': 8}
SMALL_VIT = {
    'model_name': 'vit_tiny_patch16_224', 'img_size': 32, 'patch_size': 4, 'embed_dim': 64, 'depth': 4, 'num_heads': 4}
MODELS: Dict[str, Dict[str, Any]] = {
    'cnn': SMALL_MODEL,
    'vit': SMALL_VIT,
    'vit12': {**SMALL_VIT, 'depth': 12},
    'wide': {**SMALL_MODEL, 'layers': (2, 2, 2), 'channels': (32, 64, 128)},  # 0.7 M parameters
    'resnet18': {'model_name': 'resnet18_cifar'},  # 11 M parameters
    'resnet18-narrow': {'model_name': 'resnet18_cifar', 'channels': (24, 48, 96, 192)},  # 1.6 M parameters
    'lite0': {'model_name': lite0.MODEL},  # 3.7 M parameters; its training begins with its published weights
}
LEARNING_RATES = {
    'cnn': 4e-3, 'vit': 2e-3, 'vit12': 2e-3, 'wide': 0.1, 'resnet18': 0.1, 'resnet18-narrow': 0.1, 'lite0': 1e-3}
TEMPERATURE = 4.  # of distillation, the default of timm's train.py


class Recipe(NamedTuple):
    """How a model is trained."""
    opt: str  # name of timm's optimizer
    weight_decay: float
    batch_size: int  # images a step; what remains of an epoch is left out
    flips: bool  # whether a random half of the images is flipped horizontally
    pad: int = 0  # pixels of zeros on each side of an image, before a crop is drawn
    amp: bool = False  # whether the passes are under autocast to bfloat16 on a CPU too


RECIPES = {
    'adamw': Recipe('adamw', 0.05, 64, flips=False),
    'sgd': Recipe('sgd', 5e-4, 128, flips=True),  # with Nesterov's momentum of 0.9
    'vit': Recipe('adamw', 0.05, 128, flips=True, pad=4),
    'cifar': Recipe('sgd', 5e-4, 128, flips=True, pad=4, amp=True),
    'fine-tuning': Recipe('adamw', 0.05, 64, flips=True),
}


class DenseCrossEntropy(SoftTargetCrossEntropy):
    """timm's own, to which SUMixLoss gives targets [N, C] as in all committed results; by two labels digits differ."""


def create_model(num_classes: int = 10, **kwargs: Any) -> torch.nn.Module:
    """Create a timm model, by default SMALL_MODEL (0.08 M parameters)."""
    kwargs = kwargs if 'model_name' in kwargs else {**SMALL_MODEL, **kwargs}
    return timm.create_model(**kwargs, num_classes=num_classes).to(memory_format=torch.channels_last)


def cutmix(
        num_classes: int = 10, prob: float = 1., label_smoothing: float = 0., mode: str = 'elem', **kwargs: Any,
) -> SUMixMixup:
    """Return CutMix at alpha 1 for each element, or another mode or policy."""
    kwargs = kwargs or {'cutmix_alpha': 1.}
    return SUMixMixup(
        mixup_alpha=0., mode=mode, num_classes=num_classes, prob=prob, label_smoothing=label_smoothing, **kwargs)


def train(
        model: torch.nn.Module, data: ImageSet, mixup: SUMixMixup, *, epochs: int, seed: int, lr: float = 4e-3,
        recipe: Recipe = RECIPES['adamw'], task_kwargs: Optional[Dict[str, Any]] = None,
        labeller: Optional[Labeller] = None, device: Union[str, torch.device] = 'cpu',
        teacher: Optional[torch.nn.Module] = None, crop: Optional[int] = None,
) -> List[Optional[float]]:
    """Train a model, in place, by SUMixTask, with one of timm's optimizers and its cosine schedule.

    Args:
        model: The model.
        data: Images to train on, with the masks from which each mixed sample's true share is known.
        mixup: Mixes the batches.
        epochs: Number; the learning rate rises over the first.
        seed: Seed of everything that is drawn.
        lr: Highest learning rate.
        recipe: Optimizer, batch size and augmentation.
        task_kwargs: Arguments of SUMixTask, or with a teacher of SUMixDistillationTask.
        labeller: Its shares replace those by area before the task sees them.
        device: Where; on a GPU the passes that are trained are under autocast to bfloat16.
        teacher: A trained model, whose logits are distilled at temperature TEMPERATURE, at the weight of the labels.
        crop: Height and width of a random crop of each image; None: the whole image.

    Returns:
        The mean absolute error of the labels that were trained on, by epoch; None where there is nothing to compare.
    """
    device = torch.device(device)
    model.to(device)
    data = ImageSet(*(part.to(device) for part in data))
    task = _create_task(model, teacher, mixup, task_kwargs or {})
    optimizer = create_optimizer_v2(
        task.get_trainable_module(), opt=recipe.opt, lr=lr, weight_decay=recipe.weight_decay)
    steps = len(data.labels) // recipe.batch_size
    schedule, _ = create_scheduler_v2(
        optimizer, 'cosine', num_epochs=epochs, warmup_epochs=1, warmup_lr=lr / 20, step_on_epochs=False,
        updates_per_epoch=steps)
    errors = []
    random_seed(seed)  # only now: a head draws its weights, and what follows is to be the same with and without one
    for epoch in range(epochs):
        model.train()
        error = torch.zeros(2, device=device)
        order = torch.randperm(len(data.labels))[:steps * recipe.batch_size].to(device)
        for step, rows in enumerate(order.view(steps, recipe.batch_size)):
            images, masks = data.images[rows], data.masks[rows]
            if crop is not None:
                images, masks = _crop(images, masks, crop, recipe.pad)
            if recipe.flips:
                images, masks = _flip_half(images, masks)
            mixed, target = mixup(images, data.labels[rows])
            if labeller is not None:
                with torch.no_grad():
                    target.lam = labeller(model, mixed, target, masks)
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.amp or device.type == 'cuda'):
                result = task(mixed, target)
            result['loss'].backward()
            optimizer.step()
            error += _label_error(result['lam'], target, masks)
            schedule.step_update(epoch * steps + step + 1)
        total, count = error.tolist()
        errors.append(total / count if count else None)
    model.eval()
    return errors


def _create_task(model: torch.nn.Module, teacher: Any, mixup: SUMixMixup, kwargs: Dict[str, Any]) -> SUMixTask:
    if teacher is None:
        return SUMixTask(model, mixup, DenseCrossEntropy(), verbose=False, **kwargs)
    distillation = LogitDistillationTask(model, teacher, DenseCrossEntropy(), temperature=TEMPERATURE, verbose=False)
    return SUMixDistillationTask(distillation.to(next(model.parameters()).device), mixup, verbose=False, **kwargs)


@torch.no_grad()
def _label_error(lam: torch.Tensor, target: MixedTarget, masks: torch.Tensor) -> torch.Tensor:
    """Return the sum of |lam - true share| over the mixed samples that can be compared, and their number [2]."""
    if not target.mixed:
        return torch.zeros(2, device=lam.device)
    true = true_shares(masks, target)
    use = comparable(target, true) & (target.area < 1.)
    return torch.stack([torch.where(use, (lam - true).abs(), 0.).sum(), use.sum()])


def _crop(images: torch.Tensor, masks: torch.Tensor, size: int, pad: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return random crops of images [N, 3, S, S] and masks [N, S, S], padded by zeros before."""
    images, masks = (F.pad(part, (pad,) * 4) for part in (images, masks))
    starts = torch.randint(images.shape[-1] - size + 1, (2, len(images)))
    rows, columns = (starts[:, :, None] + torch.arange(size)).to(images.device)
    which = torch.arange(len(images), device=images.device)[:, None, None]
    rows, columns = rows[:, :, None], columns[:, None, :]
    return images.permute(0, 2, 3, 1)[which, rows, columns].permute(0, 3, 1, 2), masks[which, rows, columns]


def _flip_half(images: torch.Tensor, masks: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return images [N, 3, S, S] and masks [N, S, S], a random half of them flipped horizontally."""
    flip = (torch.rand(len(images)) < 0.5).to(images.device)
    return (
        torch.where(flip.view(-1, 1, 1, 1), images.flip(-1), images),
        torch.where(flip.view(-1, 1, 1), masks.flip(-1), masks))


@torch.no_grad()
def predict(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return logits [N, C] on the CPU, in float32, of images that are moved to the model's device batch by batch."""
    device = next(model.parameters()).device
    return torch.cat([model(batch.to(device)).cpu() for batch in images.split(500)])
