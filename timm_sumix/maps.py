"""Where a timm model's last feature map is, and how its places lie.

Most of timm's models return the map from forward_features. CoaT, CrossViT, EfficientViM and PiT return tokens of
several grids, or of classes alone; they give the map beside the same output from timm's forward_intermediates.
"""
import math
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from torch.utils._pytree import tree_map

# what another call in training mode changes, or draws from
_NOISY = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)


class Found(NamedTuple):
    """What is found of a model's last feature map."""
    source: str = ''  # the method that returns it, 'forward_features' or 'forward_intermediates'; '': there is no map
    noisy: Tuple[nn.Module, ...] = ()  # batch norm and dropout of the head, which each call in training changes
    reason: str = ''  # why there is no map
    has_others: bool = False  # whether forward_head takes tokens too that have no place, such as a class token


def find_map(model: Any, image: torch.Tensor) -> Found:
    """Return where the model's last map is; ValueError if forward does more than forward_features and forward_head.

    One image [1, C, H, W] is passed in eval mode and without gradient. A map is found where its places are known, and
    the head gives the same logits as the model.
    """
    if getattr(getattr(model, 'patch_drop', None), 'prob', 0.) > 0.:
        return Found(reason='patches are dropped at random in training')
    noisy: Optional[Tuple[nn.Module, ...]] = None
    with eval_mode(model), torch.no_grad():
        logits = model.forward(image)
        for source in ('forward_features', 'forward_intermediates'):
            if not hasattr(model, source):
                continue
            head_input, maps = call_parts(model, source, image)
            if not _same(model.forward_head(head_input), logits):
                continue
            noisy = _noisy_modules(model, head_input)
            features = _by_place(model, maps, image.shape[-2:])
            if is_single_place(features):
                height, width = image.shape[-2:]
                return Found(noisy=noisy, reason=(
                    f'the map has a single place for images of {height} x {width} (--model-kwargs output_stride=8 '
                    'gives a larger one, where the model takes it)'))
            if features is not None:
                others = maps.ndim == 3 and maps.shape[1] > features.shape[1] * features.shape[2]
                return Found(source, noisy, has_others=others or source == 'forward_intermediates')
    if noisy is None:
        raise ValueError(
            f'the forward of {type(model).__name__} does more than forward_head(forward_features(x)), which would be '
            "left out: put that into one of these, or use ratio 'similarity' with original_pass 'no-grad'")
    return Found(noisy=noisy, reason='neither forward_features nor forward_intermediates returns a grid of places')


def call_parts(model: Any, source: str, images: torch.Tensor) -> Tuple[Any, Any]:
    """Return what the model's forward_head takes, and its last map as `source` returns it, of one pass."""
    if source == 'forward_intermediates':
        head_input, (maps,) = model.forward_intermediates(images, indices=1)
        return head_input, maps
    head_input = model.forward_features(images)
    return head_input, head_input


def is_single_place(features: Optional[torch.Tensor]) -> bool:
    """Whether a map [N, h, w, D] has a single place, and so does not show where an object is."""
    return features is not None and features.shape[1:3] == (1, 1)


def _same(first: Any, second: Any) -> bool:
    both = isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor) and first.shape == second.shape
    return both and (first.is_meta or torch.allclose(first, second, rtol=1e-3, atol=1e-3))


def _noisy_modules(model: Any, head_input: Any) -> Tuple[nn.Module, ...]:
    called: List[nn.Module] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, _: called.append(module))
        for module in model.modules() if isinstance(module, _NOISY)]
    model.forward_head(head_input)
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


class switched_off:
    """Set a flag of modules, 'training' or 'track_running_stats', to False for a while where it is True.

    A class, since dynamo of torch 2.6 does not trace a generator's context.
    """

    def __init__(self, flag: str, modules: Iterable[nn.Module]):
        self.flag, self.changed = flag, [module for module in modules if getattr(module, flag, False)]

    def __enter__(self) -> None:
        for module in self.changed:
            setattr(module, self.flag, False)

    def __exit__(self, *_: Any) -> None:
        for module in self.changed:
            setattr(module, self.flag, True)


def features_by_place(model: nn.Module, maps: Any, size: Sequence[int]) -> torch.Tensor:
    """Return a model's last map as [N, h, w, D], for images of a size (height, width); TypeError if it has no places.

    timm's models return it as [N, D, h, w], [N, h, w, D] or tokens [N, T, D]. num_features detects channels-last maps;
    num_prefix_tokens counts class and register tokens (without it there are none or one). The grid of tokens is that of
    the model's reduction in feature_info, rounded up where the model pads and down where not.
    """
    features = _by_place(model, maps, size)
    if features is None:
        shape = list(maps.shape) if isinstance(maps, torch.Tensor) else type(maps).__name__
        raise TypeError(
            "forward_features must return maps [N, D, h, w], [N, h, w, D] or a grid of tokens [N, T, D], "
            f"{type(model).__name__} returned {shape}: use ratio 'similarity' with original_pass 'no-grad'")
    return features


def with_features(
        model: nn.Module, source: str, head_input: Any, features: torch.Tensor,
        other: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return what forward_head takes, of a pass that call_parts made, with other features [N, h, w, D] in their places.

    What has no place, such as a class token [N, 1, D], becomes what `other` makes of it.
    """
    if source == 'forward_intermediates':  # of which the head reads what has another layout
        return tree_map(other, head_input)
    if head_input.ndim == 4:
        return features if _is_channels_last(model, head_input) else features.permute(0, 3, 1, 2)
    prefix = head_input.shape[1] - features.shape[1] * features.shape[2]
    tokens = features.flatten(1, 2)
    return torch.cat([other(head_input[:, :prefix]), tokens], dim=1) if prefix else tokens


def _by_place(model: nn.Module, maps: Any, size: Sequence[int]) -> Optional[torch.Tensor]:
    shape = tuple(maps.shape) if isinstance(maps, torch.Tensor) else ()
    if len(shape) == 4:
        return maps if _is_channels_last(model, maps) else maps.permute(0, 2, 3, 1)
    if len(shape) == 3:
        prefixes = getattr(model, 'num_prefix_tokens', None)
        # without it: one or two tokens are those of classes and of distillation
        for prefix in ((0, 1) if shape[1] > 2 else ()) if prefixes is None else (prefixes,):
            grid = _grid(model, shape[1] - prefix, size)
            if grid:
                return maps[:, prefix:].unflatten(1, grid)
    return None


def _is_channels_last(model: nn.Module, maps: torch.Tensor) -> bool:
    return maps.shape[3] == getattr(model, 'num_features', maps.shape[1]) != maps.shape[1]


def _grid(model: Any, count: int, size: Sequence[int]) -> Optional[Tuple[int, int]]:
    """Return height and width of a grid of `count` tokens, None if none fits."""
    info = getattr(model, 'feature_info', None)
    known = info[-1].get('reduction') if isinstance(info, list) and info and isinstance(info[-1], dict) else None
    for reduction in (known,) if isinstance(known, int) and known > 0 else range(1, 257):
        for rounded in (math.ceil, math.floor):
            height, width = (int(rounded(side / reduction)) for side in size)
            if height * width == count > 0:
                return height, width
    return None
