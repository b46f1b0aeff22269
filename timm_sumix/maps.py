"""Where a timm model's last feature map is, and how its places lie.

Most of timm's models return the map from forward_features. CoaT, CrossViT, EfficientViM and PiT return tokens of
several grids, or of classes alone; they give the map beside the same output from timm's forward_intermediates.
"""
import logging
import math
import weakref
from contextlib import contextmanager
from typing import Any, Iterable, Iterator, Optional, Tuple

import torch
import torch.nn as nn

from .compat import device_and_dtype

_logger = logging.getLogger(__name__)

FEATURES, INTERMEDIATES, NO_MAP = 'forward_features', 'forward_intermediates', 'none'


# what find_map found, as long as a model lives: correct() asks anew for each batch
_FOUND: 'weakref.WeakKeyDictionary[nn.Module, str]' = weakref.WeakKeyDictionary()


def find_map(model: nn.Module) -> str:
    """Return what gives the model's last map: FEATURES, INTERMEDIATES, or NO_MAP, with a warning.

    It is found once for each model, see `_search`.
    """
    if model not in _FOUND:
        _FOUND[model] = _search(model)
    return _FOUND[model]


def output_and_map(model: Any, input: torch.Tensor, source: str) -> Tuple[Any, Any]:
    """Return what the model's forward_head takes, and its last map, of one pass; with NO_MAP the second is no map."""
    if source == INTERMEDIATES:
        output, (maps,) = model.forward_intermediates(input, indices=1)
        return output, maps
    output = model.forward_features(input)
    return output, output


def _search(model: nn.Module) -> str:
    """Try out where the map is.

    One image of zeros is passed, of the size that the model was made for, in eval mode and without gradient. A model
    that does not say its size, or takes no such image, is left to its forward_features.
    """
    if _drops_patches(model):
        return _without_map(model, 'drops patches at random in training, and does not say which')
    for image in _trial_images(model):
        try:
            with _eval_mode(model), torch.no_grad():
                return _try_out(model, image)
        except Exception as error:  # of another size or number of channels than supposed
            _logger.debug(f'SUMix: {type(model).__name__} did not take an image of {list(image.shape)}: {error}')
    return FEATURES


def _try_out(model: Any, image: torch.Tensor) -> str:
    size = (image.shape[-2], image.shape[-1])
    source, features = FEATURES, _by_place(model, model.forward_features(image), size)
    if features is None and hasattr(model, 'forward_intermediates'):
        output, maps = output_and_map(model, image, INTERMEDIATES)
        # the labels must be of the very pass that is trained
        if image.is_meta or torch.allclose(model.forward_head(output), model(image), rtol=1e-3, atol=1e-3):
            source, features = INTERMEDIATES, _by_place(model, maps, size)
    if features is None:
        return _without_map(model, 'has no feature map that forward_features or forward_intermediates return')
    if features.shape[1:3] == (1, 1):
        return _without_map(model, f'has a map of a single place for images of {size[0]} x {size[1]}')
    return source


def _without_map(model: nn.Module, why: str) -> str:
    _logger.warning(
        f"SUMix: {type(model).__name__} {why}: ratio 'evidence' leaves its labels as they are by area (with a pass "
        "over the unmixed images: corrects as 'feature' does). Ratios 'feature' and 'similarity' need no map.")
    return NO_MAP


def _drops_patches(model: nn.Module) -> bool:
    return getattr(getattr(model, 'patch_drop', None), 'prob', 0.) > 0.


def _trial_images(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield images of zeros [1, C, H, W] that the model may take; none if nothing says its size."""
    config = getattr(model, 'pretrained_cfg', None) or {}
    channels, *size = config.get('input_size') or (3,)
    size = getattr(getattr(model, 'patch_embed', None), 'img_size', None) or size
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    device, dtype = device_and_dtype(model)
    if isinstance(size, (tuple, list)) and len(size) == 2:
        # timm's in_chans does not change input_size
        for count in dict.fromkeys((channels, first.in_channels if first else channels)):
            yield torch.zeros(1, count, *size, device=device, dtype=dtype)


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    training = [(module, module.training) for module in model.modules()]  # parts may be frozen
    model.eval()
    try:
        yield
    finally:
        for module, mode in training:
            module.training = mode


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
            "ratio 'evidence' needs forward_features to return maps [N, D, h, w], [N, h, w, D] or a grid of tokens "
            f"[N, T, D], {type(model).__name__} returned {shape}: use ratio 'feature' or 'similarity'")
    return features


def _by_place(model: nn.Module, maps: Any, size: Tuple[int, int]) -> Optional[torch.Tensor]:
    shape = tuple(maps.shape) if isinstance(maps, torch.Tensor) else ()
    if len(shape) == 4:
        channels_last = shape[3] == getattr(model, 'num_features', shape[1]) != shape[1]
        return maps if channels_last else maps.permute(0, 2, 3, 1)
    if len(shape) == 3:
        prefixes = getattr(model, 'num_prefix_tokens', None)
        # without it: one or two tokens are those of classes and of distillation
        for prefix in ((0, 1) if shape[1] > 2 else ()) if prefixes is None else (prefixes,):
            grid = _grid(shape[1] - prefix, size, _reductions(model))
            if grid:
                return maps[:, prefix:].unflatten(1, grid)
    return None


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
