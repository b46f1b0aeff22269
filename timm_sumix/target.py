"""What the loss is computed from: a model's outputs for a batch, and the labels of a mixed batch."""
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, Tuple

import torch

from .region import Mixing


class ModelOutput(NamedTuple):
    """A model's outputs for one batch of images.

    Args:
        logits: Class scores [N, C]; None of unmixed images where nothing reads them.
        uncertainty: Raw output of the uncertainty head [N, C], or None to use the logits themselves.
        features: Mean of the last feature map over its places [N, D], for ratios 'combined', 'evidence' and 'feature'.
        evidence: Evidence by place [N, h, w], as evidence_map returns it, where there is attention weighted by it; for
            ratios 'combined', 'evidence' and 'visible'.
        distilled: For a teacher, in place of the logits: a distillation head's [N, C], or projected features [N, D].
    """
    logits: Any  # a tensor, or None as above
    uncertainty: Optional[torch.Tensor] = None
    features: Optional[torch.Tensor] = None
    evidence: Optional[torch.Tensor] = None
    distilled: Optional[torch.Tensor] = None


@dataclass(eq=False, repr=False)
class MixedTarget:
    """The labels of a mixed batch, kept apart so that their shares can still be corrected.

    Args:
        labels: Class of each first image [N], int64, in [0, num_classes); or several [N, C], floating point, in [0, 1].
        lam: Share of each first image in its mixed image [N], in [0, 1]. None: no image of the batch was mixed.
        num_classes: Number of classes C.
        smoothing: Label smoothing, in [0, 1), as timm applies it: smoothing / C is added to every class.
        index: Position of each partner in the batch [N], int64. None: the reversed batch, as timm pairs images.
        original: The unmixed images [N, ...], for a second pass.
        mask: Fraction of each pixel of the first image in the mixed image [N or 1, 1, H, W], bool or in [0, 1], or a
            Mixing, which says more. None: only its mean, lam, is known; labels are corrected by a second pass alone.
        object_mask: Where the object is in each unmixed image [N, 1, H, W], bool or in [0, 1], of any resolution; NaN
            where it is not known, zeros where it is not in the image. With it, lam is a / (a + b), the fractions of
            both objects that are visible, and no ratio corrects it; by area, to be corrected, where one of the two is
            not known, or neither is visible. OA-CutMix (https://arxiv.org/abs/2606.04820) labels by the visible area.

    Attributes:
        lam: The share in use [N], float32.
        area: The share by area [N], float32.
        exact: Whose lam is the truth [N] bool: no ratio corrects it. None: nobody's.
        mixing: How the images were mixed, None where that is not known; and its mask and partner_mask.

    TypeError if labels or index are of another dtype; ValueError if shapes differ or a value is out of range. Values
    are checked where they lie on the CPU: on an accelerator the host would wait, and a bad label fails in the indexing.
    """
    labels: torch.Tensor
    lam: Any  # a tensor, once it is made
    num_classes: int
    smoothing: float = 0.
    index: Optional[torch.Tensor] = None
    original: Optional[torch.Tensor] = None
    mask: Any = None  # a tensor or None, once it is made
    object_mask: Optional[torch.Tensor] = None

    def __post_init__(self):
        labels, index = self.labels, self.index
        self.multi_label = isinstance(labels, torch.Tensor) and labels.ndim == 2 and labels.is_floating_point()
        check_labels(labels, self.num_classes, self.multi_label)
        check_smoothing(self.smoothing)
        count = len(labels)
        self.mixed = self.lam is not None
        lam = self.lam if self.mixed else torch.ones(count, device=labels.device)
        if lam.shape != (count,) or not lam.is_floating_point():
            raise ValueError(f'lam must be floating point of shape {[count]}, got {lam.dtype} {list(lam.shape)}')
        check_range('lam', lam)
        self.lam = self.area = lam.float()
        if index is not None:
            if index.dtype != torch.int64 or index.shape != (count,):
                raise TypeError(f'index must be int64 of shape {[count]}, got {index.dtype} {list(index.shape)}')
            check_range('index', index, count)
        if self.original is not None and len(self.original) != count:
            raise ValueError(f'original must hold {count} images, one for each label, got {len(self.original)}')
        self.mixing = Mixing(count, self.mask, index=index) if isinstance(self.mask, torch.Tensor) else self.mask
        if self.mixing is not None and (self.mixing.size != count or self.mixing.index is not index):
            raise ValueError(f'mask must be a Mixing of {count} images with the same index as the target')
        self.mask, self.partner_mask, self.exact = (
            getattr(self.mixing, name, None) for name in ('mask', 'partner_mask', 'exact'))
        if self.object_mask is not None:
            self._label_by_objects(self.object_mask)

    def _label_by_objects(self, object_mask: torch.Tensor) -> None:
        """Set lam and exact by masks of objects, where both are known and one is visible."""
        if object_mask.ndim != 4 or object_mask.shape[:2] != (len(self), 1):
            raise ValueError(
                f'object_mask must be [{len(self)}, 1, H, W], a mask for each image, got {list(object_mask.shape)}')
        objects = object_mask.squeeze(1).float()
        if objects.device.type == 'cpu' and bool(((objects < 0) | (objects > 1)).any()):
            known = objects[~objects.isnan()]
            raise ValueError(f'object_mask must be bool or in [0, 1], got values from {known.min()} to {known.max()}')
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
        """Return what part of each cell is shown of both images [N, h, w], float32; lam and 1 - lam without a mask."""
        if self.mixing is not None:
            return self.mixing.visible_fraction(size)
        first = self.lam.view(-1, 1, 1).expand(-1, *size)
        return first, 1. - first

    def soft_target(self, lam: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Return the soft target lam * s(y_a) + (1 - lam) * s(y_b) [N, C], float32, by other shares [N] if given.

        s is the one-hot vector, smoothed towards 1 / C; with multi_label the labels, towards 0.5, as timm's Mixup does.
        """
        share = (self.lam if lam is None else lam.float()).unsqueeze(1)
        if self.multi_label:
            own = self.labels.float() * (1. - self.smoothing) + 0.5 * self.smoothing
        else:
            off_value = self.smoothing / self.num_classes
            # timm's one_hot is of torch's default dtype
            own = torch.full((len(self), self.num_classes), off_value, device=self.labels.device, dtype=torch.float32)
            own.scatter_(1, self.labels.unsqueeze(1), 1. - self.smoothing + off_value)
        return own * share + self.partner(own) * (1. - share)

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        raise TypeError(f'{function.__name__} got a MixedTarget, no tensor: use .labels [N] or .soft_target() [N, C]')

    def __neg__(self) -> Any:  # the first that timm's SoftTargetCrossEntropy does with a target
        return self.__torch_function__(torch.neg, ())

    def __eq__(self, other: object) -> bool:  # torch's would be False
        return self.__torch_function__(torch.eq, ()) if isinstance(other, torch.Tensor) else self is other

    __hash__ = object.__hash__


def check_labels(labels: torch.Tensor, num_classes: int, multi_label: bool = False) -> None:
    """Raise TypeError or ValueError unless `labels` is a vector of classes [N], or with multi_label labels [N, C]."""
    is_tensor = isinstance(labels, torch.Tensor)
    got = f'{labels.dtype} {list(labels.shape)}' if is_tensor else type(labels).__name__
    if multi_label:
        if not is_tensor or not labels.is_floating_point():
            raise TypeError(f'with multi_label, labels must be a floating point tensor [N, {num_classes}], got {got}')
        if labels.ndim != 2 or labels.shape[1] != num_classes:
            raise ValueError(f'with multi_label, labels must have shape [N, {num_classes}], got {list(labels.shape)}')
        check_range('with multi_label, labels', labels)
        return
    if not is_tensor or labels.dtype != torch.int64:
        remedy = 'use labels.long()' if is_tensor and not labels.is_floating_point() else (
            'a soft target, as timm.data.Mixup makes, cannot be corrected: leave mixing to SUMixMixup, or to SUMixTask')
        raise TypeError(f'labels must be an int64 tensor of class indices [N], got {got}; {remedy}')
    if labels.ndim != 1:
        raise ValueError(f'labels must have shape [N], one class for each image, got {list(labels.shape)}')
    check_range('labels', labels, num_classes)


def check_range(name: str, values: torch.Tensor, end: Optional[int] = None) -> None:
    """Raise ValueError unless all `values` that lie on the CPU are in [0, end), or without an end in [0, 1]."""
    if values.device.type == 'cpu' and values.numel():
        least, greatest = (bound.item() for bound in values.aminmax())
        if not (least >= 0 and (greatest <= 1 if end is None else greatest < end)):  # nor NaN
            bounds = '[0, 1]' if end is None else f'[0, {end})'
            raise ValueError(f'{name} must be in {bounds}, got values from {least} to {greatest}')


def check_smoothing(smoothing: float) -> None:
    """Raise ValueError unless `smoothing` is in [0, 1)."""
    if smoothing is None or not 0. <= smoothing < 1.:
        raise ValueError(f'label smoothing must be in [0, 1), got {smoothing}')
