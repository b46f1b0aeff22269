"""The probe model: training it, and asking it about mixed test images."""
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import torch

from timm_sumix import MixedTarget, ModelOutput, Ratio, SUMixMixup
from timm_sumix.passes import SUMixModule

from ..common.scores import top1
from ..data.placed import ImageSet
from ..labels.labellers import LABELLERS, Labeller, attention_labellers
from ..labels.truth import true_shares
from ..training import LEARNING_RATES, MODELS, create_model, cutmix, predict, train
from .scenes import Scene

BATCH = 128


class _Everything(Ratio):
    """Reads all that a model tells: the same outputs then serve every ratio."""


class Answers(NamedTuple):
    """One mixed batch as a probe model sees it.

    Args:
        mixed: Outputs for the mixed images.
        unmixed: Outputs for the unmixed images, unmixed from the same pass.
        original: Outputs for the unmixed images, of a second pass.
        target: The batch's MixedTarget.
        true: True shares of the first images [N], NaN where neither object is visible.
    """
    mixed: ModelOutput
    unmixed: ModelOutput
    original: ModelOutput
    target: MixedTarget
    true: torch.Tensor


def train_probe(
        scene: Scene, data: ImageSet, test: ImageSet, epochs: int, seed: int,
        after_epoch: Optional[Callable[[torch.nn.Module, int], None]] = None,
) -> Tuple[torch.nn.Module, float]:
    """Train a probe model with CutMix, its labels by area.

    Args:
        scene: The scene, which says which model it is.
        data: Training images.
        test: Test images.
        epochs: Number of epochs.
        seed: Seed of the model and its training.
        after_epoch: Called with the model and the number of epochs done.

    Returns:
        The model, in evaluation mode, and its top-1 on the test images in percent.
    """
    torch.manual_seed(seed)
    model = create_model(scene.classes, **MODELS[scene.probe])
    train(
        model, data, cutmix(scene.classes), epochs=epochs, seed=seed, lr=LEARNING_RATES[scene.probe],
        task_kwargs={'ratio': 'area', 'gamma': 0.},
        after_epoch=None if after_epoch is None else lambda epoch: after_epoch(model, epoch))
    return model, top1(predict(model, test.images), test.labels)


def rival_labellers(scene: Scene, model: torch.nn.Module) -> Dict[str, Labeller]:
    """Return the rivals that fit the probe model: class activation maps for a CNN, attention for a transformer."""
    own = {'snapmix': LABELLERS['snapmix']} if scene.probe == 'cnn' else attention_labellers(model)
    return {**own, **{name: LABELLERS[name] for name in ('lumix', 'evidence of the mixture')}}


@torch.no_grad()
def ask_probe(
        model: torch.nn.Module, data: ImageSet, mixup: SUMixMixup, seed: int, labellers: Dict[str, Labeller],
) -> Tuple[List[Answers], Dict[str, List[torch.Tensor]]]:
    """Mix the test images in batches of 128, and ask the probe model and the labellers about them.

    The outputs are kept, so that one pass serves every ratio, strength and power.

    Args:
        model: The probe model.
        data: Test images.
        mixup: Mixes them.
        seed: Seed of the mixing.
        labellers: {name: labeller}.

    Returns:
        The answers for each batch, and {name: shares of each batch} by the labellers.
    """
    torch.manual_seed(seed)
    one, two = (SUMixModule(model, _Everything(), original_pass=made) for made in ('none', 'no-grad'))
    for module in (one, two):
        module.prepare(data.images)
    batches, shares = [], {name: [] for name in labellers}
    for images, labels, masks in zip(*(part.split(BATCH) for part in (data.images, data.labels, data.masks))):
        mixed, target = mixup(images, labels)
        answers = (*one(mixed, None, target.mixing), two(mixed, target.original)[1])
        batches.append(Answers(*answers, target, true_shares(masks, target)))
        for name, labeller in labellers.items():
            shares[name].append(labeller(model, mixed, target, masks))
    return batches, shares
