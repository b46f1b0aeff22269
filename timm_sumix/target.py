"""What the loss is computed from: a model's outputs for a batch, and the labels of a mixed batch."""
import copy
from typing import Any, NamedTuple, Optional, Tuple, Union

import torch

from .labels import check_labels, check_range, check_smoothing, smoothed_labels
from .region import Mixing

_NOT_A_TENSOR = 'classes are in .labels [N], probabilities in .soft_target() [N, C]'


class ModelOutput(NamedTuple):
    """A model's outputs for one batch of images.

    Args:
        logits: Class scores [N, C]; None of unmixed images where nothing reads them.
        uncertainty: Raw output of the uncertainty head [N, C], or None to use the logits themselves.
        features: Mean of the last feature map over its places [N, D]; ratios 'combined', 'evidence' and 'feature' need
            it.
        evidence: Evidence by place [N, h, w], as evidence_map returns it; ratios 'combined' and 'evidence' need it.
        distilled: What is compared with a teacher's, where it is not the logits: those of a distillation head [N, C],
            or projected features [N, D].
    """
    logits: Any  # a tensor, or None as above
    uncertainty: Optional[torch.Tensor] = None
    features: Optional[torch.Tensor] = None
    evidence: Optional[torch.Tensor] = None
    distilled: Optional[torch.Tensor] = None


class MixedTarget:
    """The labels of a mixed batch, kept apart so that their shares can still be corrected.

    Args:
        labels: Class of each first image [N], int64, in [0, num_classes); or of images that may have several classes
            which they have [N, C], floating point, in [0, 1].
        lam: Share of each first image in its mixed image [N], in [0, 1]. None: no image of the batch was mixed.
        num_classes: Number of classes C.
        smoothing: Label smoothing, in [0, 1), as timm applies it: smoothing / C is added to every class.
        index: Position of each partner in the batch [N], int64. None: the reversed batch, as timm pairs images.
        original: The unmixed images [N, ...], for a second pass.
        mask: Fraction of each pixel of the first image in the mixed image [N or 1, 1, H, W], bool or in [0, 1], or a
            Mixing, which says more. None: not known, only its mean, lam; then labels are corrected by a second pass
            alone.
        object_mask: Where the object is in each unmixed image [N, 1, H, W], bool or in [0, 1], of any resolution; NaN
            where it is not known, zeros where it is not in the image. With it, lam is visible(a) / (visible(a) +
            visible(b)), each the visible fraction of what its unmixed image has of the object, and no ratio corrects
            it. Where one of the two is not known, or neither is visible, lam is that by area, to be corrected.
            OA-CutMix (https://arxiv.org/abs/2606.04820) likewise labels by objects, by their visible area.

    Attributes:
        lam: The share in use [N], float32.
        area: The share by area [N], float32.
        exact: Whose lam is the truth [N] bool: no ratio corrects it. None: nobody's.
        mixing: How the images were mixed, None where that is not known.

    Raises:
        TypeError: If labels or index are of another dtype.
        ValueError: If shapes differ or a value is out of range. Values are checked where they lie on the CPU; on an
            accelerator the check would make the host wait, and a bad label fails in the indexing itself.
    """

    def __init__(
            self,
            labels: torch.Tensor,
            lam: Optional[torch.Tensor],
            num_classes: int,
            smoothing: float = 0.,
            index: Optional[torch.Tensor] = None,
            original: Optional[torch.Tensor] = None,
            mask: Union[torch.Tensor, Mixing, None] = None,
            object_mask: Optional[torch.Tensor] = None,
    ):
        self.multi_label = isinstance(labels, torch.Tensor) and labels.ndim == 2 and labels.is_floating_point()
        check_labels(labels, num_classes, self.multi_label)
        check_smoothing(smoothing)
        self.mixed = lam is not None
        lam = torch.ones(len(labels), device=labels.device) if lam is None else lam
        _check_shares(lam, index, len(labels))
        if original is not None and len(original) != len(labels):
            raise ValueError(f'original must hold {len(labels)} images, one for each label, got {len(original)}')
        self.labels = labels
        self.lam = self.area = lam.float()
        self.num_classes = num_classes
        self.smoothing = smoothing
        self.index = index
        self.original = original
        self.mixing = Mixing(len(labels), mask, index=index) if isinstance(mask, torch.Tensor) else mask
        if self.mixing is not None and not self.mixing.is_of(len(labels), index):
            raise ValueError(f'mask must be a Mixing of {len(labels)} images with the same index as the target')
        self.exact = None if self.mixing is None else self.mixing.exact
        self.object_mask = object_mask
        if object_mask is not None:
            _check_object_mask(object_mask, len(labels))
            self._label_by_objects(object_mask.squeeze(1).float())

    def _label_by_objects(self, objects: torch.Tensor) -> None:
        """Set lam and exact by masks of objects [N, H, W], where both are known and one is visible."""
        if not self.mixed:
            return
        if self.mixing is None:
            raise ValueError('object_mask needs the mask that the images were mixed by, got mask None')
        first, second = self.visible_fraction((objects.shape[1], objects.shape[2]))
        sizes = objects.sum((1, 2)).clamp(min=1e-6)  # none of an object that is not in the image is visible
        a = (objects * first).sum((1, 2)) / sizes
        b = (self.partner(objects) * second).sum((1, 2)) / self.partner(sizes)
        share = a / (a + b)
        is_known = share.isfinite()
        self.lam = torch.where(is_known, share, self.area)
        self.exact = is_known if self.exact is None else is_known | self.exact

    @property
    def mask(self) -> Optional[torch.Tensor]:
        """Fraction of each pixel of the first image in the mixed image [N or 1, 1, H, W], None where not known."""
        return None if self.mixing is None else self.mixing.mask

    @property
    def partner_mask(self) -> Optional[torch.Tensor]:
        """The same for the partner's pixels, where it is not 1 - mask."""
        return None if self.mixing is None else self.mixing.partner_mask

    def partner(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the rows of `tensor` [N, ...] that belong to each image's partner."""
        return tensor.flip(0) if self.index is None else tensor[self.index]

    @property
    def partner_labels(self) -> torch.Tensor:
        """Class of each second image [N], or classes [N, C]."""
        return self.partner(self.labels)

    @property
    def same_labels(self) -> torch.Tensor:
        """Whether both images of a mixed one have the same labels, so that its share says nothing [N], bool."""
        same = self.labels == self.partner_labels
        return same.all(1) if self.multi_label else same

    def visible_fraction(self, size: Tuple[int, int]) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return how much of each cell of both images the mixed image shows.

        Args:
            size: Height and width (h, w) of the grid of cells.

        Returns:
            Fractions of each cell of the first image and of the partner, in [0, 1], two tensors [N, h, w], float32;
            lam and 1 - lam in all cells where the mask is not known.
        """
        if self.mixing is not None:
            return self.mixing.visible_fraction(size)
        first = self.lam.view(-1, 1, 1).expand(-1, *size)
        return first, 1. - first

    def soft_target(self, lam: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Return the soft target t = lam * s(y_a) + (1 - lam) * s(y_b).

        s is the one-hot vector, smoothed towards 1 / C; with multi_label it is the labels themselves, smoothed towards
        0.5, as timm's Mixup does.

        Args:
            lam: Shares of the first images [N] in place of the target's own.

        Returns:
            Class probabilities [N, C], float32.
        """
        share = (self.lam if lam is None else lam.float()).unsqueeze(1)
        own = smoothed_labels(self.labels, self.num_classes, self.smoothing, self.multi_label)
        return own * share + self.partner(own) * (1. - share)

    def __repr__(self) -> str:
        kind = 'mixed' if self.mixed else 'not mixed'
        return f'MixedTarget({len(self)} labels of {self.num_classes} classes, {kind}; {_NOT_A_TENSOR})'

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f'MixedTarget has no {name!r}: {_NOT_A_TENSOR}')

    def __eq__(self, other: object) -> bool:
        if isinstance(other, torch.Tensor):  # else False, silently
            raise TypeError(f'a MixedTarget cannot be compared with a tensor: {_NOT_A_TENSOR}')
        return self is other

    __hash__ = object.__hash__

    def __neg__(self) -> Any:  # the first that timm's SoftTargetCrossEntropy does with a target
        raise TypeError(f'a MixedTarget is no tensor: {_NOT_A_TENSOR}')

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        raise TypeError(f'{function.__name__} got a MixedTarget, which is no tensor: {_NOT_A_TENSOR}')

    def size(self, dim: Optional[int] = None):
        """Return the size of the labels, as a tensor of labels would."""
        return self.labels.size() if dim is None else self.labels.size(dim)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device, non_blocking: bool = False) -> 'MixedTarget':
        """Return a copy with every tensor on another device."""
        result = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, (torch.Tensor, Mixing)):
                setattr(result, name, value.to(device, non_blocking=non_blocking))
        return result


def _check_shares(lam: torch.Tensor, index: Optional[torch.Tensor], count: int) -> None:
    if lam.shape != (count,) or not lam.is_floating_point():
        raise ValueError(f'lam must be floating point of shape {[count]}, got {lam.dtype} {list(lam.shape)}')
    if lam.device.type == 'cpu' and count:
        least, greatest = (bound.item() for bound in lam.aminmax())
        if not 0 <= least <= greatest <= 1:  # nor NaN
            raise ValueError(f'lam must be in [0, 1], got values from {least} to {greatest}')
    if index is not None:
        if index.dtype != torch.int64 or index.shape != (count,):
            raise TypeError(f'index must be int64 of shape {[count]}, got {index.dtype} {list(index.shape)}')
        check_range('index', index, count)


def _check_object_mask(object_mask: torch.Tensor, count: int) -> None:
    if object_mask.ndim != 4 or object_mask.shape[:2] != (count, 1):
        raise ValueError(
            f'object_mask must be [{count}, 1, H, W], a mask for each image, got {list(object_mask.shape)}')
    if object_mask.device.type == 'cpu' and bool(((object_mask < 0) | (object_mask > 1)).any()):
        known = object_mask[~object_mask.isnan()]
        raise ValueError(f'object_mask must be bool or in [0, 1], got values from {known.min()} to {known.max()}')
