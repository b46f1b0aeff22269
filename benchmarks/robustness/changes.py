"""What is done to test images: an attack, occlusion, common corruptions.

FGSM: https://arxiv.org/abs/1412.6572. Occlusion by dropped patches: https://arxiv.org/abs/2105.10497.
Common corruptions: https://arxiv.org/abs/1903.12261, by imagecorruptions-imaug (pip install -e .[robustness]).
"""
from typing import List, Optional

import numpy as np
import torch
import torch.nn.functional as F

from .images import Images

GRID = 8  # occlusion drops cells of an 8 x 8 grid


def attack(model: torch.nn.Module, images: Images, strength: float, device: str) -> torch.Tensor:
    """Return images moved by `strength` (of 1) along the sign of the loss's gradient: the fast gradient sign method."""
    moved = []
    for pixels, labels in zip(images.pixels.split(250), images.labels.split(250)):
        pixels = pixels.to(device).requires_grad_()
        gradient, = torch.autograd.grad(F.cross_entropy(model(pixels), labels.to(device), reduction='sum'), pixels)
        moved.append((pixels + strength * gradient.sign()).clamp(0, 1).detach().cpu())
    return torch.cat(moved)


def occlude(images: Images, dropped: float, seed: int) -> torch.Tensor:
    """Return images in each of which a share `dropped` of the cells of a grid, drawn at random, has the mean colour."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(len(images.labels), GRID * GRID, generator=generator).argsort(1).argsort(1)
    hidden = (order < round(dropped * GRID * GRID)).view(-1, 1, GRID, GRID).float()
    hidden = F.interpolate(hidden, size=images.pixels.shape[-2:])
    return torch.where(hidden > 0, torch.tensor(images.normal[0]).view(1, -1, 1, 1), images.pixels)


def corrupt(images: Images, name: str, severity: int, seed: int) -> torch.Tensor:
    """Return images under one of the common corruptions."""
    from imagecorruptions import corrupt as corrupt_one
    np.random.seed(seed)
    arrays = (images.pixels * 255).round().byte().permute(0, 2, 3, 1).numpy()
    changed = np.stack([corrupt_one(array, corruption_name=name, severity=severity) for array in arrays])
    return torch.from_numpy(changed).permute(0, 3, 1, 2).float() / 255


def corruption_names(wanted: Optional[List[str]]) -> List[str]:
    """Return the corruptions to measure.

    Args:
        wanted: Their names; an empty list for none, None for the benchmark's 15.

    Raises:
        ImportError: If the package of corruptions is missing.
        ValueError: If a name is unknown.
    """
    if wanted == []:
        return []
    try:
        from imagecorruptions import get_corruption_names
    except ImportError as error:
        raise ImportError(
            'corruptions need the package imagecorruptions-imaug: pip install -e .[robustness], or give --corruptions '
            'without a name to leave them out') from error
    known = get_corruption_names('all')
    unknown = [name for name in wanted or [] if name not in known]
    if unknown:
        raise ValueError(f'--corruptions must be among {known}, got {unknown}')
    return wanted or get_corruption_names('common')
