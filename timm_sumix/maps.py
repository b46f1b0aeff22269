"""Where a timm model's last feature map is, how its places lie, and whether its head reads it.

Most of timm's models return the map from forward_features. CoaT, CrossViT, EfficientViM and PiT return tokens of
several grids, or of classes alone; they give the map beside the same output from timm's forward_intermediates.
"""
import logging
import math
import weakref
from contextlib import contextmanager
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn

from .compat import device_and_dtype

_logger = logging.getLogger(__name__)

FEATURES, INTERMEDIATES, NO_MAP = 'forward_features', 'forward_intermediates', 'none'


class Found(NamedTuple):
    """What is known of a model's last feature map.

    Args:
        source: What gives it: FEATURES, INTERMEDIATES or NO_MAP.
        head_reads_map: Whether forward_head reads the map alone, rather than a class token or something else.
        is_plain: Whether the model's forward is forward_head(forward_features(x)).
    """
    source: str = FEATURES
    head_reads_map: bool = True
    is_plain: bool = True


# what may change later and what find_map found with it, as long as a model lives: correct() asks anew for each batch
_FOUND: 'weakref.WeakKeyDictionary[nn.Module, Tuple[Any, Found]]' = weakref.WeakKeyDictionary()
_TOLD: 'weakref.WeakSet[nn.Module]' = weakref.WeakSet()  # whose single place was spoken of


def find_map(model: nn.Module, size: Optional[Tuple[int, int]] = None) -> Found:
    """Return where the model's last map is; a warning says where there is none. It is found once for each model.

    One image is passed, in eval mode and without gradient. A model that does not say which size it takes, or takes no
    such image, is taken for one whose head reads what forward_features returns.

    Args:
        size: Height and width of the images; None: the size that the model was made for.
    """
    # timm's reset_classifier and set_input_size
    state = str(getattr(model, 'global_pool', None)), getattr(getattr(model, 'patch_embed', None), 'img_size', None)
    if model not in _FOUND or _FOUND[model][0] != state:
        _FOUND[model] = state, _search(model, size)
    return _FOUND[model][1]


@contextmanager
def watch_features(model: Any, source: str) -> Iterator[List[Tuple[Any, Any]]]:
    """Keep what the model's forward_features returns while the model is called as it is, hooks and all.

    Yields:
        A list that fills with (what forward_head takes, the last map), as output_and_map returns them.
    """
    seen: List[Tuple[Any, Any]] = []
    before, own = vars(model).get('forward_features'), model.forward_features

    def forward_features(*args: Any, **kwargs: Any) -> Any:
        seen.append(output_and_map(model, source, own, *args, **kwargs))
        return seen[-1][0]

    model.forward_features = forward_features
    try:
        yield seen
    finally:
        if before is None:
            del model.forward_features
        else:
            model.forward_features = before


def output_and_map(model: Any, source: str, forward_features: Any, *args: Any, **kwargs: Any) -> Tuple[Any, Any]:
    """Return what the model's forward_head takes, and its last map, of one pass; with NO_MAP the second is no map."""
    if source == INTERMEDIATES:
        output, (maps,) = model.forward_intermediates(args[0], indices=1)
        return output, maps
    output = forward_features(*args, **kwargs)
    return output, output


def _search(model: nn.Module, size: Optional[Tuple[int, int]]) -> Found:
    if not hasattr(model, 'forward_features'):
        return _without_map(model, 'has no forward_features')
    if getattr(getattr(model, 'patch_drop', None), 'prob', 0.) > 0.:
        return _without_map(model, 'drops patches at random in training, and does not say which')
    for image in _trial_images(model, size):
        try:
            with _eval_mode(model), torch.no_grad():
                return _try_out(model, image)
        except Exception as error:  # of another size or number of channels than supposed
            _logger.debug(f'SUMix: {type(model).__name__} did not take an image of {list(image.shape)}: {error}')
    return Found()


def _try_out(model: Any, image: torch.Tensor) -> Found:
    size, logits = (image.shape[-2], image.shape[-1]), model.forward(image)
    for source in (FEATURES, INTERMEDIATES) if hasattr(model, 'forward_intermediates') else (FEATURES,):
        with watch_features(model, source) as seen:
            watched = model.forward(image)
        if len(seen) != 1:
            return _without_map(model, f'calls forward_features {len(seen)} times')._replace(is_plain=False)
        output, maps = seen[-1]
        features = _by_place(model, maps, size)
        if features is None or not _same(watched, logits):  # the labels must be of the very pass that is trained
            continue
        if features.shape[1:3] == (1, 1):
            return warn_of_single_place(model, size)
        reads_map = source == FEATURES and _head_reads_map(model, output, features)
        reads_map = reads_map and _same(model.forward_head(output), logits)  # and nothing comes after the head
        return Found(source, reads_map, _same(model.forward_head(model.forward_features(image)), logits))
    return _without_map(model, 'has no feature map that forward_features or forward_intermediates return')


def _same(first: Any, second: Any) -> bool:
    both = isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor) and first.shape == second.shape
    return both and (first.is_meta or torch.allclose(first, second, rtol=1e-3, atol=1e-3))


def _head_reads_map(model: Any, output: torch.Tensor, features: torch.Tensor) -> bool:
    """Whether forward_head gives the same features when all but the map is changed: a class token, for example."""
    if output.ndim == 4 or output.shape[1] == features.shape[1] * features.shape[2]:
        return True
    if output.is_meta:  # without values, what timm calls the pooling tells
        return getattr(model, 'global_pool', 'token') not in ('', 'token')
    changed = with_features(model, output.roll(1, dims=-1) + 1., features)  # a head's norm undoes a shift alone
    return torch.equal(*(model.forward_head(tokens, pre_logits=True) for tokens in (output, changed)))


def _without_map(model: nn.Module, why: str) -> Found:
    _logger.warning(
        f"SUMix: {type(model).__name__} {why}: ratios 'combined', 'evidence' and 'feature' leave its labels as they "
        "are by area. Ratio 'similarity' with original_pass 'no-grad' needs no map.")
    return Found(NO_MAP, head_reads_map=False)


def warn_of_single_place(model: nn.Module, size: Tuple[int, int]) -> Found:
    """Say, once, that the map has a single place for images of height and width `size`; return that there is no map."""
    if model in _TOLD:
        return Found(NO_MAP, head_reads_map=False)
    _TOLD.add(model)
    return _without_map(
        model, f'has a map of a single place for images of {size[0]} x {size[1]} (--model-kwargs output_stride=8 gives '
        'a larger one, where the model takes it)')


def _trial_images(model: nn.Module, side: Optional[Tuple[int, int]] = None) -> Iterator[torch.Tensor]:
    """Yield images [1, C, H, W] that the model may take, of `side` or the size that it says."""
    config = getattr(model, 'pretrained_cfg', None) or {}
    channels, *size = config.get('input_size') or (3,)
    size = side or getattr(getattr(model, 'patch_embed', None), 'img_size', None) or size
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    device, dtype = device_and_dtype(model)
    if isinstance(size, (tuple, list)) and len(size) == 2:
        # timm's in_chans does not change input_size
        for count in dict.fromkeys((channels, first.in_channels if first else channels)):
            yield torch.linspace(-1., 1., count * size[0] * size[1], device=device).view(1, count, *size).to(dtype)


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    training = [(module, module.training) for module in model.modules()]  # parts may be frozen
    model.eval()
    try:
        yield
    finally:
        model.train()  # some of timm 1.0.27's models clear there what they keep in eval mode
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
