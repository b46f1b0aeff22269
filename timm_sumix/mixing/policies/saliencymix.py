"""SaliencyMix: a box around the partner's most salient pixel, pasted at the same place.

Paper: SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better Regularization, ICLR 2021,
https://arxiv.org/abs/2006.01791
Saliency: Human detection using a mobile platform and novel features derived from a visual saliency mechanism, Image and
Vision Computing 28 (2010), as OpenCV's StaticSaliencyFineGrained computes it.

Deviations from the authors' release: a map for each image, not one for the batch. From OpenCV: no rounding to whole
grey levels, so that normalised images need not be turned back; the 3 x 3 blur repeats the border, not mirrors it.
"""
from dataclasses import dataclass
from typing import Optional

import torch
import torch.nn.functional as F

from .box import Box, BoxPolicy, centred_box
from .sampling import both_sides, draw_beta

REACHES = (12, 24, 48, 28, 56, 112)  # of the surrounds, in pixels


@dataclass(frozen=True)
class SaliencyMix(BoxPolicy):
    """mixed = x outside the box, x' inside.

    Args:
        alpha: The share outside the box, before the border cuts it, is drawn from Beta(alpha, alpha), greater than 0.
    """
    alpha: float = 0.2

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Box:
        """Draw `count` sizes, and make a box for each of the first `rows` images around its partner's salient pixel."""
        rows = count if rows is None else rows
        lam = draw_beta(self.alpha, count, x.device).expand(rows)
        place = saliency(x[len(x) - rows:]).flatten(1).argmax(1).flip(0)
        centre = torch.stack([place // x.shape[-1], place % x.shape[-1]]).float()
        length = both_sides(x.shape[-2:], x.device)
        return centred_box(centre, length * (1. - lam) ** 0.5 // 1, length)


@torch.no_grad()
def saliency(x: torch.Tensor) -> torch.Tensor:
    """Return how much each pixel of images [N, C, H, W] stands out from its surrounds [N, H, W], float32, in [0, 2].

    on = sum_s max(g - mean_s, 0), off = sum_s max(mean_s - g, 0), saliency = on / max(on) + off / max(off); g is the
    blurred grey image (3 channels: RGB, else the mean), mean_s the mean of a box of reach s around a pixel, without it.
    """
    x = x.float()
    red, green, blue = x.unbind(1) if x.shape[1] == 3 else [x.mean(1)] * 3
    grey = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
    for _ in range(2):  # weigh each pixel and its neighbours by 1, 2, 1 along both sides
        grey = F.pad(grey[:, None], (1, 1, 1, 1), mode='replicate')[:, 0]
        rows = grey[:, :-2] + 2. * grey[:, 1:-1] + grey[:, 2:]
        grey = (rows[..., :-2] + 2. * rows[..., 1:-1] + rows[..., 2:]) / 16.
    # means do not depend on an offset, and small numbers keep the running sums exact
    grey = grey - grey.mean(dim=(1, 2), keepdim=True)
    sums = F.pad(grey, (1, 0, 1, 0)).cumsum(1).cumsum(2)
    on, off = torch.zeros_like(grey), torch.zeros_like(grey)
    for reach in REACHES:
        contrast = grey - _surround_mean(grey, sums, reach)
        on += contrast.clamp(min=0.)
        off -= contrast.clamp(max=0.)
    return _share_of_max(on) + _share_of_max(off)


def _surround_mean(grey: torch.Tensor, sums: torch.Tensor, reach: int) -> torch.Tensor:
    """Return means over [i - reach + 1, i + reach] along both sides, cut at the border, without the pixel itself."""
    def ends(length):
        places = torch.arange(length, device=grey.device)
        return (places - reach + 1).clamp(min=0), (places + reach + 1).clamp(max=length - 1)

    (top, bottom), (left, right) = ends(grey.shape[1]), ends(grey.shape[2])
    bands = sums.index_select(1, bottom) - sums.index_select(1, top)
    total = bands.gather(2, right.expand_as(grey)) - bands.gather(2, left.expand_as(grey))
    # OpenCV leaves out the last row and column, so that in a tiny image a surround can be empty
    count = (bottom - top)[:, None] * (right - left) - 1
    return (total - grey) / count.clamp(min=1)


def _share_of_max(values: torch.Tensor) -> torch.Tensor:
    return values / values.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
