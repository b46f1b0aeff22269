"""Where in an image a model sees something: the strength of its features at each place.

Features stand out from the background's where an object is, whatever its class, so that no class activation map, and
with it no label and no second head, is needed. The idea of reading an object's place from the features of the pass
over the unmixed image is SnapMix's (https://arxiv.org/abs/2012.04846), which weighs them by the label's class.
"""
from typing import Tuple

import torch


@torch.no_grad()
def feature_strength(model: torch.nn.Module, maps: torch.Tensor, size: Tuple[int, int]) -> torch.Tensor:
    """Return how far the features at each place are from what is common in the image.

    Common is, in each channel, the lower quartile over the image's places: zero behind a ReLU, and a typical background
    token in a transformer.

    Args:
        model: The timm model that made them; its num_features tell channels-last maps, and its num_prefix_tokens how
            many tokens have no place: where it does not say, none or the first, as the others form a grid. One or two
            tokens form none: they are those of classes and distillation.
        maps: What forward_features returned: [N, D, h, w], [N, h, w, D] or tokens [N, T, D].
        size: Height and width of the images.

    Returns:
        Euclidean distances [N, h, w], float32, no gradient.

    Raises:
        TypeError: If maps are of another shape.
    """
    features = _by_place(model, maps, size).detach().float()
    places = features.flatten(1, 2)
    common = places.kthvalue((places.shape[1] + 3) // 4, dim=1).values
    return (features - common[:, None, None]).norm(dim=-1)


def _by_place(model: torch.nn.Module, maps: torch.Tensor, size: Tuple[int, int]) -> torch.Tensor:
    """Return features by place [N, h, w, D]."""
    shape = tuple(maps.shape) if isinstance(maps, torch.Tensor) else ()
    if len(shape) == 4:
        last = shape[3] == getattr(model, 'num_features', shape[1]) != shape[1]
        return maps if last else maps.permute(0, 2, 3, 1)
    if len(shape) == 3:
        told = getattr(model, 'num_prefix_tokens', None)
        untold = (0, 1) if shape[1] > 2 else ()
        for prefix in untold if told is None else (told,):
            count = shape[1] - prefix
            height = max(1, round((count * size[0] / size[1]) ** 0.5))
            if count > 0 and count % height == 0:
                return maps[:, prefix:].unflatten(1, (height, count // height))
    raise TypeError(
        "ratio 'place' needs forward_features to return maps [N, D, h, w], [N, h, w, D] or a grid of tokens [N, T, D], "
        f"{type(model).__name__} returned {list(shape) or type(maps).__name__}: use ratio 'feature' or 'similarity'")
