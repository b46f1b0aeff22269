"""Where a timm model's last feature map is, how its places lie, and whether its head reads it alone.

Most of timm's models return the map from forward_features. CoaT, CrossViT, EfficientViM and PiT return tokens of
several grids, or of classes alone; they give the map beside the same output from timm's forward_intermediates.
"""
import math
from contextlib import contextmanager
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn

FEATURES, INTERMEDIATES, NO_MAP = 'forward_features', 'forward_intermediates', 'none'
_NORMS = nn.modules.batchnorm._NormBase
_NOISY = (_NORMS, nn.modules.dropout._DropoutNd)  # what a further call in training changes


class Found(NamedTuple):
    """What is known of a model's last feature map.

    Args:
        source: What gives it: FEATURES, INTERMEDIATES or NO_MAP.
        head_reads_map: Whether forward_head reads the map alone, rather than a class token or something else.
        noisy: Modules of the head that change or draw something when it is called in training mode.
        reason: Why there is no map; '' where there is one.
    """
    source: str = NO_MAP
    head_reads_map: bool = False
    noisy: Tuple[nn.Module, ...] = ()
    reason: str = ''


def find_map(model: nn.Module, image: torch.Tensor) -> Found:
    """Return where the model's last map is.

    The image is passed in eval mode and without gradient. Only what is proven is found: the map lies in known places,
    and the head gives the same logits as the model, whatever stands beside the map.

    Args:
        model: A timm model.
        image: One image [1, C, H, W], as the model takes it.

    Raises:
        ValueError: If the model's forward does more than forward_features and forward_head.
    """
    if getattr(getattr(model, 'patch_drop', None), 'prob', 0.) > 0.:
        return Found(reason='patches are dropped at random in training')
    with eval_mode(model), torch.no_grad():
        return _search(model, image)


def _search(model: Any, image: torch.Tensor) -> Found:
    logits, size, equals = model.forward(image), image_size(image), False
    noisy: Tuple[nn.Module, ...] = ()
    for source in (FEATURES, INTERMEDIATES) if hasattr(model, 'forward_intermediates') else (FEATURES,):
        output, maps = output_and_map(model, source, image)
        if not _same(model.forward_head(output), logits):
            continue
        equals, noisy = True, _noisy_modules(model, output)
        features = _by_place(model, maps, size)
        if features is None:
            continue
        if is_single_place(features):
            return Found(reason=f'the map has a single place for images of {size[0]} x {size[1]} (--model-kwargs '
                                'output_stride=8 gives a larger one, where the model takes it)', noisy=noisy)
        return Found(source, source == FEATURES and _head_reads_map(model, output, features), noisy)
    if not equals:
        raise ValueError(
            f'the forward of {type(model).__name__} does more than forward_head(forward_features(x)), which would be '
            "left out: put that into one of these, or use ratio 'similarity' with original_pass 'no-grad'")
    return Found(reason='neither forward_features nor forward_intermediates returns a grid of places', noisy=noisy)


def output_and_map(model: Any, source: str, images: torch.Tensor) -> Tuple[Any, Any]:
    """Return what the model's forward_head takes, and its last map, of one pass."""
    if source == INTERMEDIATES:
        output, (maps,) = model.forward_intermediates(images, indices=1)
        return output, maps
    output = model.forward_features(images)
    return output, output


def image_size(images: torch.Tensor) -> Tuple[int, int]:
    """Return height and width of images [N, C, H, W]."""
    return images.shape[-2], images.shape[-1]


def is_single_place(features: torch.Tensor) -> bool:
    """Whether a map [N, h, w, D] says nothing of places, having one alone."""
    return features.shape[1:3] == (1, 1)


def _same(first: Any, second: Any) -> bool:
    both = isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor) and first.shape == second.shape
    return both and (first.is_meta or torch.allclose(first, second, rtol=1e-3, atol=1e-3))


def _head_reads_map(model: Any, output: torch.Tensor, features: torch.Tensor) -> bool:
    """Whether forward_head gives the same features when all but the map is changed: a class token, for example."""
    if output.ndim == 4 or output.shape[1] == features.shape[1] * features.shape[2]:
        return True
    if output.is_meta:  # without values, by what timm calls the pooling
        return getattr(model, 'global_pool', 'token') not in ('', 'token')
    changed = with_features(model, output.roll(1, dims=-1) + 1., features)  # a head's norm undoes a shift alone
    return torch.equal(*(model.forward_head(tokens, pre_logits=True) for tokens in (output, changed)))


def _noisy_modules(model: Any, output: torch.Tensor) -> Tuple[nn.Module, ...]:
    """Return those modules that forward_head calls which change or draw something in training mode."""
    called: List[nn.Module] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, _: called.append(module))
        for module in model.modules() if isinstance(module, _NOISY)]
    model.forward_head(output)
    for hook in hooks:
        hook.remove()
    return tuple(called)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, and back as it was, parts that are frozen too."""
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.train()  # some of timm 1.0.27's models clear there what they keep in eval mode
        for module, mode in training:
            module.training = mode


@contextmanager
def quiet(model: nn.Module, noisy: Tuple[nn.Module, ...]) -> Iterator[None]:
    """Call a model's head once more without a trace: its dropout draws nothing, its batch norm counts no batch."""
    with _without('training', [module for module in (model, *noisy) if module.training]):
        yield


@contextmanager
def uncounted(noisy: Tuple[nn.Module, ...]) -> Iterator[None]:
    """Call a model's head once more on the same batch: normalised as before, which its batch norm counts no more."""
    with _without('track_running_stats', [
            module for module in noisy if isinstance(module, _NORMS) and module.track_running_stats]):
        yield


@contextmanager
def _without(flag: str, modules: List[nn.Module]) -> Iterator[None]:
    for module in modules:
        setattr(module, flag, False)
    try:
        yield
    finally:
        for module in modules:
            setattr(module, flag, True)


def features_by_place(model: nn.Module, maps: Any, size: Tuple[int, int]) -> torch.Tensor:
    """Return the last feature map in one layout [N, h, w, D].

    timm's models return it as [N, D, h, w], [N, h, w, D] or tokens [N, T, D], and none says which. num_features detects
    channels-last maps; num_prefix_tokens counts class and register tokens (without it there are none or one). The grid
    of tokens is that of the model's reduction in feature_info, rounded up where the model pads and down where not.

    Args:
        model: The model that made the maps.
        maps: What its forward_features, or one map of what its forward_intermediates, returned.
        size: Height and width of the images in pixels.

    Raises:
        TypeError: If maps have no such layout.
    """
    features = _by_place(model, maps, size)
    if features is None:
        shape = list(maps.shape) if isinstance(maps, torch.Tensor) else type(maps).__name__
        raise TypeError(
            "forward_features must return maps [N, D, h, w], [N, h, w, D] or a grid of tokens [N, T, D], "
            f"{type(model).__name__} returned {shape}: use ratio 'similarity' with original_pass 'no-grad'")
    return features


def with_features(model: nn.Module, maps: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Return maps as features_by_place takes them, with other features by place [N, h, w, D] in their places."""
    if maps.ndim == 4:
        return features if _is_channels_last(model, maps) else features.permute(0, 3, 1, 2)
    prefix = maps.shape[1] - features.shape[1] * features.shape[2]
    return torch.cat([maps[:, :prefix], features.flatten(1, 2)], dim=1)


def _by_place(model: nn.Module, maps: Any, size: Tuple[int, int]) -> Optional[torch.Tensor]:
    shape = tuple(maps.shape) if isinstance(maps, torch.Tensor) else ()
    if len(shape) == 4:
        return maps if _is_channels_last(model, maps) else maps.permute(0, 2, 3, 1)
    if len(shape) == 3:
        prefixes = getattr(model, 'num_prefix_tokens', None)
        # without it: one or two tokens are those of classes and of distillation
        for prefix in ((0, 1) if shape[1] > 2 else ()) if prefixes is None else (prefixes,):
            grid = _grid(shape[1] - prefix, size, _reductions(model))
            if grid:
                return maps[:, prefix:].unflatten(1, grid)
    return None


def _is_channels_last(model: nn.Module, maps: torch.Tensor) -> bool:
    return maps.shape[3] == getattr(model, 'num_features', maps.shape[1]) != maps.shape[1]


def _reductions(model: Any) -> Iterable[int]:
    """Return by how much the map may be smaller than the image: what the model says, else anything."""
    info = getattr(model, 'feature_info', None)
    known = info[-1].get('reduction') if isinstance(info, list) and info and isinstance(info[-1], dict) else None
    return (known,) if isinstance(known, int) else range(1, 257)


def _grid(count: int, size: Tuple[int, int], reductions: Iterable[int]) -> Optional[Tuple[int, int]]:
    """Return height and width of a grid of `count` tokens; None if none fits."""
    for reduction in reductions:
        for rounded in (math.ceil, math.floor):
            height, width = (int(rounded(side / reduction)) for side in size)
            if height * width == count > 0:
                return height, width
    return None
