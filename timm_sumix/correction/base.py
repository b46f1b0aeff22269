"""The base class of what corrects the share of each label in a mixed image."""
from typing import Optional, Tuple

import torch

from ..target import MixedTarget, ModelOutput

ONE_CLASS = (
    "compares what is predicted of one class an image, and with multi_label an image may have several: use ratio "
    "'evidence', 'feature' or 'area'")
SHAPES = {'logits': 'C', 'features': 'D', 'evidence': 'h, w'}  # after the batch dimension
_ROUNDING = 1e-6  # of shares at 0 and 1


class Ratio:
    """Base class of what corrects shares. For one of your own, implement `shares`.

    Attributes:
        needs: Fields of the unmixed images' ModelOutput that it reads, of 'logits', 'features' and 'evidence'; the
            others need not be computed, and are None. Empty: `original` may be None.
        uses_classes: Whether it reads the class of an image, which multi-label images do not have.
        origin: What the labels follow, for the log.
    """
    needs: Tuple[str, ...] = tuple(SHAPES)
    uses_classes: bool = False
    origin: str = 'your own ratio'

    @property
    def name(self) -> str:
        """Name for logs and errors."""
        return type(self).__name__.lower()

    def shares(self, mixed: ModelOutput, original: ModelOutput, target: MixedTarget) -> torch.Tensor:
        """Return corrected shares of the first images [N]; they may be NaN where an output is not finite."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, mixed: ModelOutput, original: Optional[ModelOutput], target: MixedTarget) -> torch.Tensor:
        """Return the corrected share of each first image [N], float32, without gradient.

        Where an output is not finite (an overflow in half precision), the share by area stays; where the label is known
        (`target.exact`), it is not corrected.

        Args:
            mixed: Outputs for the mixed images.
            original: Outputs for the unmixed images, in the order of the batch; None if the ratio reads none. With
                nothing in them (the model has no feature map), the shares stay by area.
            target: Labels of the mixed batch.

        ValueError if the outputs lack what the ratio reads or are of another shape, or it reads the class of an image
        and the target has several.
        """
        if self.uses_classes and target.multi_label:
            raise ValueError(f'ratio {self.name!r} {ONE_CLASS}')
        if self.needs and original is None:
            raise ValueError(f'ratio {self.name!r} needs the outputs for the unmixed images, got None')
        if self.needs and not self._has_outputs(mixed, original, target):  # type: ignore[arg-type]
            return target.lam
        lam = self.shares(mixed, original, target)  # type: ignore[arg-type]  # None where nothing is read
        if not isinstance(lam, torch.Tensor) or lam.shape != target.lam.shape:
            got = list(lam.shape) if isinstance(lam, torch.Tensor) else type(lam).__name__
            raise ValueError(f'ratio {self.name!r} must return shares of shape {list(target.lam.shape)}, got {got}')
        lam = lam.float()
        usable = (lam > -_ROUNDING) & (lam < 1. + _ROUNDING)  # False for NaN
        if self.origin == Ratio.origin and lam.device.type == 'cpu' and not bool((usable | lam.isnan()).all()):
            wrong = lam[~(usable | lam.isnan())]
            raise ValueError(f'ratio {self.name!r} must return shares in [0, 1], got {wrong.tolist()}')
        if target.exact is not None:
            usable = usable & ~target.exact
        return torch.where(usable, lam.clamp(0., 1.), target.lam)

    def _has_outputs(self, mixed: ModelOutput, original: ModelOutput, target: MixedTarget) -> bool:
        """Return whether there is anything to correct by; ValueError if only a part of what is read is there."""
        if all(value is None for value in original):
            return False
        for field in self.needs:
            for which, output in (('unmixed', original), ('mixed', mixed)):
                if which == 'unmixed' or field != 'evidence':
                    self._check(which, output, field, target)
        return True

    def _check(self, which: str, output: ModelOutput, field: str, target: MixedTarget) -> None:
        value, count = getattr(output, field), len(target)
        if value is None or value.ndim != (3 if field == 'evidence' else 2) or len(value) != count:
            got = None if value is None else list(value.shape)
            raise ValueError(
                f'ratio {self.name!r} needs ModelOutput.{field} [{count}, {SHAPES[field]}] for the {which} images, '
                f'got {got}')
        if field == 'logits' and value.shape[1] != target.num_classes:
            raise ValueError(
                f'ratio {self.name!r} needs logits [{count}, {target.num_classes}] for the {which} images, '
                f"of the labels' classes, got {list(value.shape)}: ratio 'evidence' needs none")
