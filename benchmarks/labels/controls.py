"""Controls of the comparison: corrections given to other samples, and a correction that grows with training."""
from functools import partial
from typing import Callable, Dict

import torch

from timm_sumix import MixedTarget
from timm_sumix.correction import Ratio, create_ratio
from timm_sumix.correction.formula import WEIGHTS, Formula

NEIGHBOURS = 8  # samples of a batch, sorted by area, among which corrections are exchanged
LOG_ODDS = 14.  # of shares nearer to 0 or 1 than 1e-6
HALVINGS = 40  # of the range in which a shift is looked for


@torch.no_grad()
def exchanged(lam: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
    """Return shares that are corrected as those of other samples of about the same area are: a neutral control.

    Samples are sorted by area. Among each NEIGHBOURS, corrections, differences of log-odds from the area, change places
    at random, and all are shifted by the one number that makes the mean of the shares the mean of the areas. So a
    share says nothing of its own picture, nor of its area more than the area does, and the shares are spread as the
    corrected ones are. Where shares by area [N] are 0 or 1 they stay.
    """
    lam, area = lam.double(), area.double()
    inner = ((area > 0) & (area < 1)).nonzero().squeeze(1)
    groups = inner[area[inner].argsort()].split(NEIGHBOURS)
    result = area.clone()
    with torch.random.fork_rng(devices=[]):  # boxes and batches are drawn as they are without this
        for rows in groups:
            correction = (_log_odds(lam[rows]) - _log_odds(area[rows]))[torch.randperm(len(rows)).to(rows.device)]
            result[rows] = _with_mean(_log_odds(area[rows]) + correction, area[rows].mean())
    return result.float()


def _log_odds(share: torch.Tensor) -> torch.Tensor:
    return torch.logit(share).clamp(-LOG_ODDS, LOG_ODDS)


def _with_mean(log_odds: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return sigmoid(log_odds + shift), by the shift for which their mean is `mean`."""
    low = torch.full_like(mean, -3 * LOG_ODDS)
    high = -low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        is_above = torch.sigmoid(log_odds + middle).mean() > mean
        low, high = torch.where(is_above, low, middle), torch.where(is_above, middle, high)
    return torch.sigmoid(log_odds + (low + high) / 2)


class Shuffled(Ratio):
    """A ratio whose corrections other samples of about the same area get: of the right size, for the wrong picture."""

    def __init__(self, name: str, steps: int = 1) -> None:
        self.ratio = create_ratio(name)
        self.needs = self.ratio.needs

    def shares(self, mixed, original, target: MixedTarget):
        return exchanged(self.ratio(mixed, original, target), target.area)


class Growing(Ratio):
    """A ratio whose weights of predictions and features grow evenly from 0: at first a network recognises nothing.

    In the last of the training's steps they are those of the formula's name.
    """
    needs = ('logits',)

    def __init__(self, name: str, steps: int) -> None:
        self.weights, self.steps, self.step = WEIGHTS[name], steps, 0

    def shares(self, mixed, original, target):
        w, s, k = self.weights
        part = min(self.step / max(self.steps - 1, 1), 1.)
        self.step += 1
        return Formula(w, part * s, part * k)(mixed, original, target)


# name: (number of steps of the training) -> ratio
RATIOS: Dict[str, Callable[[int], Ratio]] = {
    **{f'{name}, shuffled': partial(Shuffled, name) for name in ('combined', 'similarity', 'evidence')},
    'similarity, growing': partial(Growing, 'similarity')}
