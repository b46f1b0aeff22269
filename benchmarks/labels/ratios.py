"""Ratios that are controls and ideas of the comparison, made from the library's."""
from dataclasses import dataclass, field
from typing import Any, Callable, Dict

import torch

from timm_sumix.correction import Ratio, create_ratio

NEIGHBOURS = 8  # samples of a batch, sorted by area, among which corrections are shuffled


@dataclass(frozen=True)
class _Moved(Ratio):
    """The area, moved by a part of what another ratio moves it by.

    Args:
        ratio: The other ratio.
        part: (what it moves each share by [N], outputs for the mixed images, target) -> what to move it by [N].
    """
    ratio: Ratio
    part: Callable[..., torch.Tensor]

    def __post_init__(self):
        for read in ('reads', 'reads_mixed'):
            object.__setattr__(self, read, getattr(self.ratio, read))

    def shares(self, mixed, original, target):
        change = self.ratio(mixed, original, target) - target.lam
        return (target.lam + self.part(change, mixed, target)).clamp(0., 1.)


def _shuffled(change, mixed, target):
    """Each sample gets the correction of another of about the same area: of the right size, for the wrong picture."""
    by_area = target.area.argsort()
    with torch.random.fork_rng(devices=[]):  # boxes and batches are drawn as they are without this
        position = (torch.arange(len(change)) // NEIGHBOURS + torch.rand(len(change))).to(change.device)
    result = torch.empty_like(change)
    result[by_area] = change[by_area[position.argsort()]]
    return result


def _by_confidence(change, mixed, target):
    """As far as the model gives the two classes its probability."""
    probability = mixed.logits.detach().softmax(-1)
    first, second = (
        probability.gather(1, labels.unsqueeze(1)).squeeze(1) for labels in (target.labels, target.partner_labels))
    return change * torch.where(target.labels == target.partner_labels, first, first + second)


@dataclass
class _FromArea:
    """More of it from step to step, all of it from the given one on."""
    steps: int = 500
    done: int = field(default=0, init=False)

    def __call__(self, change: torch.Tensor, *_: Any) -> torch.Tensor:
        self.done += 1
        return change * min(1., self.done / self.steps)


def create_own_ratio(name: str) -> Ratio:
    """Return one of RATIOS, made anew for each run."""
    return RATIOS[name]()


RATIOS: Dict[str, Callable[[], Ratio]] = {
    'shuffled': lambda: _Moved(create_ratio('evidence'), _shuffled),
    'by confidence': lambda: _Moved(create_ratio('evidence'), _by_confidence),
    'from area': lambda: _Moved(create_ratio('evidence'), _FromArea()),
}
