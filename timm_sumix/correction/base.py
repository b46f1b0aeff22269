"""The base class of what corrects the share of each label in a mixed image."""
from typing import Optional, Tuple

import torch

from ..target import MixedTarget, ModelOutput

FIELDS = ('logits', 'features', 'evidence')
ONE_CLASS = (
    "compares what is predicted of one class an image, and with multi_label an image may have several: use ratio "
    "'evidence', 'feature' or 'area'")
_ROUNDING = 1e-6  # of shares at 0 and 1


class Ratio:
    """Base class of what corrects shares. For one of your own, implement `distances`, or override `shares`.

    Attributes:
        needs: Fields of the unmixed images' ModelOutput that it reads, of 'logits', 'features' and 'evidence'; what
            is not among them need not be computed, and is None. Empty: `original` may be None.
        uses_classes: Whether it asks for the class of an image, so that multi-label images have no answer.
        origin: What the labels follow, for the log.
    """
    needs: Tuple[str, ...] = FIELDS
    uses_classes: bool = False
    origin: str = 'your own ratio'

    @property
    def name(self) -> str:
        """Name for logs and errors."""
        return type(self).__name__.lower()

    def distances(
            self, mixed: ModelOutput, original: ModelOutput, target: MixedTarget) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return D_a and D_b: how far each mixed image is from its first image and from its partner, [N] each."""
        raise NotImplementedError

    def shares(self, mixed: ModelOutput, original: ModelOutput, target: MixedTarget) -> torch.Tensor:
        """Return corrected shares of the first images [N]; they may be NaN where an output is not finite."""
        first, second = self.distances(mixed, original, target)
        return torch.sigmoid(torch.logit(target.lam) - (first - second))

    @torch.no_grad()
    def __call__(self, mixed: ModelOutput, original: Optional[ModelOutput], target: MixedTarget) -> torch.Tensor:
        """Correct the share of each first image.

        Args:
            mixed: Outputs for the mixed images.
            original: Outputs for the unmixed images, of a pass of their own or unmixed, in the order of the batch;
                None if the ratio reads nothing of them.
            target: Labels of the mixed batch; `target.lam` holds the shares by area.

        Returns:
            Corrected shares [N], float32, no gradient. Where an output is not finite (an overflow in half precision),
            the share stays as it is by area; where the label is known (`target.exact`), as it is.

        Raises:
            ValueError: If the outputs lack what the ratio reads, or are of another shape, or it asks for one class an
                image and the target is of several.
        """
        if self.uses_classes and target.multi_label:
            raise ValueError(f'ratio {self.name!r} {ONE_CLASS}')
        if self.needs and original is None:
            raise ValueError(f'ratio {self.name!r} needs the outputs for the unmixed images, got None')
        for part in self.needs:
            self._check('unmixed', original, part, target)  # type: ignore[arg-type]
            if part != 'evidence':
                self._check('mixed', mixed, part, target)
        lam = self.shares(mixed, original, target)  # type: ignore[arg-type]  # None where nothing is read
        if not isinstance(lam, torch.Tensor) or lam.shape != target.lam.shape:
            got = list(lam.shape) if isinstance(lam, torch.Tensor) else type(lam).__name__
            raise ValueError(f'ratio {self.name!r} must return shares of shape {list(target.lam.shape)}, got {got}')
        lam = lam.float()
        usable = (lam > -_ROUNDING) & (lam < 1. + _ROUNDING)  # nor NaN
        if self.origin == Ratio.origin and lam.device.type == 'cpu' and not bool((usable | lam.isnan()).all()):
            wrong = lam[~(usable | lam.isnan())]
            raise ValueError(f'ratio {self.name!r} must return shares in [0, 1], got {wrong.tolist()}')
        if target.exact is not None:
            usable = usable & ~target.exact
        return torch.where(usable, lam.clamp(0., 1.), target.lam)

    def _check(self, which: str, output: ModelOutput, part: str, target: MixedTarget) -> None:
        value, expected = getattr(output, part), {'logits': ('C',), 'features': ('D',), 'evidence': ('h', 'w')}[part]
        if value is None or value.ndim != len(expected) + 1 or len(value) != len(target):
            shape = None if value is None else list(value.shape)
            raise ValueError(
                f'ratio {self.name!r} needs ModelOutput.{part} [{", ".join((str(len(target)), *expected))}] '
                f'for the {which} images, got {shape}')
        if part == 'logits' and value.shape[1] != target.num_classes:
            raise ValueError(
                f'ratio {self.name!r} needs logits [{len(target)}, {target.num_classes}] for the {which} images, '
                f"of the labels' classes, got {list(value.shape)}: ratio 'evidence' needs none")
