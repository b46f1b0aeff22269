"""The pasted region: what each mixed image shows of its two images, by pixels and by cells of a feature map."""
from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

import torch
import torch.nn.functional as F


@dataclass(eq=False)
class Mixing:
    """How a batch was mixed: the masks, and who is whose partner; ValueError if a mask is of another shape.

    Args:
        size: Number of images N.
        mask: Fraction of each pixel of the first image in the mixed image [N or 1, 1, H, W], bool or in [0, 1].
        partner_mask: The same for the partner's pixels, where it is not 1 - mask.
        index: Position of each partner in the batch [N], int64. None: the reversed batch.
        complementary: True says that the two mixtures of a pair share one mask, so that what one does not show of an
            image the other does. A Python flag, since reading the mask would synchronise the GPU.
        exact: Whose share by area is the truth [N] bool, as mixup's, which shows all of both. None: nobody's.
    """
    size: int
    mask: torch.Tensor
    partner_mask: Optional[torch.Tensor] = None
    index: Optional[torch.Tensor] = None
    complementary: bool = False
    exact: Optional[torch.Tensor] = None
    _cells: Dict[Tuple[int, int], Tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, init=False)

    def __post_init__(self):
        for name, shown in (('mask', self.mask), ('partner_mask', self.partner_mask)):
            if shown is not None and (shown.ndim != 4 or shown.shape[0] not in (1, self.size) or shown.shape[1] != 1):
                raise ValueError(f'{name} must be [1 or {self.size}, 1, H, W], got {list(shown.shape)}')

    def partner(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the rows of `tensor` [N, ...] that belong to each image's partner."""
        return tensor.flip(0) if self.index is None else tensor[self.index]

    def as_partner(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the rows of `tensor` [N, ...] of the mixed image in which each is the partner, zeros without one."""
        if self.index is None:
            return tensor.flip(0)
        own = torch.arange(self.size, device=self.index.device)
        source = own.scatter(0, self.index, own)
        found = (self.index[source] == own).view(-1, *[1] * (tensor.ndim - 1))
        return torch.where(found, tensor[source], torch.zeros_like(tensor))

    def partner_in_place(self, size: Tuple[int, int]) -> Optional[torch.Tensor]:
        """Return whose partner is shown at its own place and size [N] bool, by cells of a grid (h, w); None: all."""
        if self.partner_mask is None:
            return None
        first, second = self.visible_fraction(size)
        return (first + second - 1.).abs().amax((1, 2)) < 1e-3  # not so of ResizeMix, which shows all of it, smaller

    def visible_fraction(self, size: Tuple[int, int]) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return how much of each cell of both images each mixed image shows, as MixedTarget.visible_fraction does."""
        if size not in self._cells:  # unmixing and ratio both ask
            average = _average_compiled if torch.compiler.is_compiling() else _average
            first = average(self.mask, *size).expand(self.size, *size)
            partner = None if self.partner_mask is None else average(self.partner_mask, *size).expand(self.size, *size)
            self._cells[size] = first, 1. - first if partner is None else partner
        return self._cells[size]


def _average(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the means [N, height, width] of cells of a mask [N, 1, H, W]."""
    # as [N, H, W]: on a GPU torch reads [N, 1, H, W] by the stride of its second dimension, which may be anything
    return F.adaptive_avg_pool2d(mask.squeeze(1).float(), (height, width))


# an operator of its own, which is not looked into: inductor cannot pool to a size that it does not know
_average_compiled = torch.library.custom_op('timm_sumix::average', _average, mutates_args=())
_average_compiled.register_fake(lambda mask, h, w: mask.new_empty((len(mask), h, w), dtype=torch.float32))
