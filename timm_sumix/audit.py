"""What a model says of a mixed batch: the corrected shares, without training."""
from typing import Optional

import torch

from .options import SUMixOptions
from .passes import SUMixModule, prepare_originals
from .target import MixedTarget


@torch.no_grad()
def correct(
        model: torch.nn.Module,
        mixed: torch.Tensor,
        target: MixedTarget,
        options: Optional[SUMixOptions] = None,
) -> torch.Tensor:
    """Return the shares that a model would give the first images of a mixed batch.

    It makes the passes that the ratio needs, in the mode that the model is in; `model.eval()` first leaves batch norm's
    statistics alone.

    Args:
        model: A timm model.
        mixed: Mixed images [N, C, H, W].
        target: The MixedTarget that came with them, with the unmixed images as `target.original`.
        options: How to correct; None: the defaults. The uncertainty term plays no part.

    Returns:
        Corrected shares [N], float32, in [0, 1].

    Raises:
        ValueError: If target lacks what the ratio needs.

    Example:
        >>> mixup = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode='elem', num_classes=1000)
        >>> mixed, target = mixup(images, labels)
        >>> lam = correct(model.eval(), mixed, target)
    """
    options = options or SUMixOptions()
    ratio = options.create_ratio()
    original = None
    if options.resolved_pass != 'none':
        if target.original is None:
            raise ValueError(f'target.original must hold the unmixed images for ratio {ratio.name!r}, got None')
        original = prepare_originals(model, target.original, mixed, options.original_scale)
    mixed_output, original_output = SUMixModule(model, ratio)(mixed, original)
    return ratio(mixed_output, original_output, target)
