"""Evidence by place, and what is filled in where a mixed image does not show it."""
import math

import pytest
import torch

from timm_sumix.correction import evidence_map
from timm_sumix.region import Mixing

GRID = (3, 2)
CELLS = [(row, column) for row in range(GRID[0]) for column in range(GRID[1])]


def _neighbours(row, column):
    return [
        (y, x) for y in (row - 1, row, row + 1) for x in (column - 1, column, column + 1)
        if 0 <= y < GRID[0] and 0 <= x < GRID[1]]


def _reference_evidence(features, known=None):
    """Return {cell: evidence} of one image [h, w, D], the greatest strength, and the mean evidence of what is known."""
    places = [features[cell].tolist() for cell in CELLS]
    background = []
    for channel in zip(*places):
        mean = sum(channel) / len(channel)
        background.append(mean - 0.6745 * math.sqrt(sum((value - mean) ** 2 for value in channel) / len(channel)))
    distance = {
        cell: math.sqrt(sum((value - low) ** 2 for value, low in zip(place, background)))
        for cell, place in zip(CELLS, places)}
    part = {cell: 1. if known is None else known[cell].item() for cell in CELLS}
    strength = {}
    for cell in CELLS:
        near = _neighbours(*cell)
        strength[cell] = (
            sum(distance[other] * part[other] for other in near) / 9
            * (len(near) / 9) / max(sum(part[other] for other in near) / 9, 1e-6))
    greatest = max(max(strength.values()), 1e-6)
    evidence = {cell: max(value / greatest, 1e-6) ** 4 for cell, value in strength.items()}
    seen = sum(part.values())
    return evidence, greatest, sum(evidence[cell] * part[cell] for cell in CELLS) / max(seen, 1e-6)


def test_evidence_follows_the_formula_and_carries_no_gradient():
    features = torch.randn(4, *GRID, 5, requires_grad=True)
    found = evidence_map(features)
    expected = [list(_reference_evidence(image)[0].values()) for image in features.detach()]
    torch.testing.assert_close(found, torch.tensor(expected).view(4, *GRID), rtol=1e-4, atol=1e-6)
    assert not found.requires_grad


@pytest.mark.parametrize('index', [None, [1, 2, 3, 4, 5, 0]], ids=str)
def test_evidence_of_what_is_not_known_is_the_mean_of_both_images(index):
    mixing = Mixing(6, torch.rand(6, 1, 12, 8) < 0.5, index=None if index is None else torch.tensor(index))
    features, known = torch.randn(6, *GRID, 5), torch.rand(6, *GRID)
    known[0], known[1, 0], known[2, 1:] = 1., 0., 0.
    parts = [_reference_evidence(image, share) for image, share in zip(features, known)]
    expected = []
    for i, (evidence, greatest, density) in enumerate(parts):
        _, other, partners = parts[index[i] if index else 5 - i]
        unseen = math.sqrt(density * partners * (other / greatest) ** 4)
        expected.append([
            evidence[cell] * known[i][cell].item() + (1 - known[i][cell].item()) * unseen for cell in CELLS])
    found = evidence_map(features, known, mixing)
    torch.testing.assert_close(found, torch.tensor(expected).view(6, *GRID), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[0], evidence_map(features[:1])[0])


def test_evidence_lies_where_features_differ_from_the_background_and_is_even_where_none_do():
    features = torch.full((2, 8, 8, 5), 0.5)
    features[0, 4:7, 1:4] = 3.
    evidence = evidence_map(features)
    assert evidence[0, 5, 2] == 1. and evidence[0, 3:8, 0:5].sum() > 0.9 * evidence[0].sum()
    torch.testing.assert_close(evidence[1, 1:-1, 1:-1], evidence[1, 1:2, 1:2].expand(6, 6))
