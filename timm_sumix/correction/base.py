"""The base class of what corrects the share of each label in a mixed image."""
from typing import ClassVar, Optional, Tuple

import torch

from ..target import HeadOutput, MixedTarget

Distances = Tuple[torch.Tensor, torch.Tensor]


class Ratio:
    """Base class of what corrects shares. For one of your own, implement `distances`, or override `shares`.

    Class attributes say what a ratio reads; what none reads is not computed:
        needs_original: The outputs for the unmixed images. False: `original` may be None.
        features: HeadOutput.features, of both passes.
        original_evidence: HeadOutput.evidence of the unmixed images.
        mixed_evidence: HeadOutput.evidence of the mixed images.
        origin: Where the formula is from, for the log.
    """
    needs_original: ClassVar[bool] = True
    features: ClassVar[bool] = False
    original_evidence: ClassVar[bool] = False
    mixed_evidence: ClassVar[bool] = False
    origin: ClassVar[str] = 'your own'

    @property
    def name(self) -> str:
        """Name for logs and errors."""
        return type(self).__name__.lower()

    def distances(self, mixed: HeadOutput, original: Optional[HeadOutput], target: MixedTarget) -> Distances:
        """Return D_a and D_b: how far each mixed image is from its first image and from its partner, [N] each."""
        raise NotImplementedError

    def shares(self, mixed: HeadOutput, original: Optional[HeadOutput], target: MixedTarget) -> torch.Tensor:
        """Return corrected shares of the first images [N]; they may be NaN where an output is not finite."""
        first, second = self.distances(mixed, original, target)
        return torch.sigmoid(torch.logit(target.lam) - (first - second))

    @torch.no_grad()
    def __call__(self, mixed: HeadOutput, original: Optional[HeadOutput], target: MixedTarget) -> torch.Tensor:
        """Correct the share of each first image.

        Args:
            mixed: Outputs for the mixed images.
            original: Outputs for the unmixed images, in the order of the batch; None if the ratio needs none.
            target: Labels of the mixed batch; `target.lam` holds the shares by area.

        Returns:
            Corrected shares [N], float32, no gradient. Where an output is not finite (an overflow in half precision),
            the share stays as it is by area; where masks of the objects tell it (`target.known`), as it is by them.

        Raises:
            ValueError: If the outputs lack what the ratio needs, or are of another shape.
        """
        self._check(mixed, original, target)
        lam = self.shares(mixed, original, target)
        if not isinstance(lam, torch.Tensor) or lam.shape != target.lam.shape:
            got = list(lam.shape) if isinstance(lam, torch.Tensor) else type(lam).__name__
            raise ValueError(f'ratio {self.name!r} must return shares of shape {list(target.lam.shape)}, got {got}')
        lam = lam.float()
        usable = lam.isfinite() if target.known is None else lam.isfinite() & ~target.known
        return torch.where(usable, lam, target.lam)

    def _check(self, mixed: HeadOutput, original: Optional[HeadOutput], target: MixedTarget) -> None:
        if original is None and self.needs_original:
            raise ValueError(f'ratio {self.name!r} needs the outputs for the unmixed images, got None')
        if self.mixed_evidence:
            self._check_evidence('mixed', mixed.evidence, len(target))
        if original is None:
            return
        if self.features:
            shapes = [None if part.features is None else tuple(part.features.shape) for part in (mixed, original)]
            if shapes[0] is None or shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] != len(target):
                raise ValueError(
                    f'ratio {self.name!r} needs HeadOutput.features [{len(target)}, D] for the mixed and the unmixed '
                    f'images, got {shapes[0]} and {shapes[1]}')
        if self.original_evidence:
            self._check_evidence('unmixed', original.evidence, len(target))

    def _check_evidence(self, which: str, evidence: Optional[torch.Tensor], size: int) -> None:
        shape = None if evidence is None else tuple(evidence.shape)
        if shape is None or len(shape) != 3 or shape[0] != size:
            raise ValueError(
                f'ratio {self.name!r} needs HeadOutput.evidence [{size}, h, w] for the {which} images, got {shape}')
