"""A control of the comparison: the corrections of the library's default, shuffled."""
import torch

from timm_sumix.correction import Ratio, create_ratio

NEIGHBOURS = 8  # samples of a batch, sorted by area, among which corrections are shuffled


class Shuffled(Ratio):
    """Each sample gets the correction of another of about the same area: of the right size, for the wrong picture."""

    def __init__(self) -> None:
        self.ratio = create_ratio('evidence')
        self.reads, self.reads_mixed = self.ratio.reads, self.ratio.reads_mixed

    def shares(self, mixed, original, target):
        """Return the shuffled shares [N]."""
        change = self.ratio(mixed, original, target) - target.lam
        by_area = target.area.argsort()
        with torch.random.fork_rng(devices=[]):  # boxes and batches are drawn as they are without this
            position = (torch.arange(len(change)) // NEIGHBOURS + torch.rand(len(change))).to(change.device)
        shuffled = torch.empty_like(change)
        shuffled[by_area] = change[by_area[position.argsort()]]
        return (target.lam + shuffled).clamp(0., 1.)


RATIOS = {'shuffled': Shuffled}
