"""The true share of a mixed image, and the samples that are compared with it."""
import torch

from benchmarks.labels.truth import comparable, true_shares
from timm_sumix import MixedTarget


def _target(kept, labels):
    """Return the target of images mixed with those half a batch further on, of whose pixels `kept` are their own."""
    mask, index = kept.unsqueeze(1), torch.arange(len(kept)).roll(len(kept) // 2)
    return MixedTarget(labels, mask.float().mean((1, 2, 3)), len(kept), index=index, mask=mask)


def _true_shares(first, second, kept):
    target = _target(torch.cat([kept, kept]), torch.arange(2 * len(kept)))
    return true_shares(torch.cat([first, second]), target)[:len(first)]


def _reference_true_lam(first, second, kept):
    shares = []
    for a, b, keep in zip(first, second, kept):
        pixels = [(y, x) for y in range(a.shape[0]) for x in range(a.shape[1])]
        seen_a = sum(bool(a[p] and keep[p]) for p in pixels) / sum(bool(a[p]) for p in pixels)
        seen_b = sum(bool(b[p] and not keep[p]) for p in pixels) / sum(bool(b[p]) for p in pixels)
        shares.append(seen_a / (seen_a + seen_b) if seen_a + seen_b else float('nan'))
    return torch.tensor(shares)


def test_the_true_share_compares_visible_parts():
    first, second, kept = (torch.rand(3, 20, 8, 8) < 0.4).unbind()
    kept[0], first[1], second[1] = True, True, True
    second[2], kept[2] = torch.eye(8).bool(), ~first[2] | torch.eye(8).bool()
    torch.testing.assert_close(
        _true_shares(first, second, kept), _reference_true_lam(first, second, kept), equal_nan=True)
    nothing = torch.zeros(1, 8, 8, dtype=torch.bool)
    nothing[0, 0, 0] = True
    assert _true_shares(nothing, ~nothing, ~nothing).isnan().all()


def test_samples_of_two_visible_classes_are_compared():
    kept = torch.rand(12, 4, 4) < torch.linspace(0, 1, 12).view(-1, 1, 1)
    target = _target(kept, torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 6, 7, 8, 9]))
    true = torch.linspace(0, 1, 12).flip(0)
    true[5] = float('nan')
    assert comparable(target, true).nonzero().squeeze(1).tolist() == [2, 3, 4, 8, 9, 10, 11]
