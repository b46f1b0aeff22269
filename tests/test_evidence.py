"""Evidence by place, and what is filled in where a mixed image does not show it."""
import itertools

import pytest
import torch

from timm_sumix.correction import evidence_map
from timm_sumix.region import Mixing

GRID = (3, 2)
def _reference_evidence(features, known):
    """Return the evidence of one image [h, w, D], the greatest strength, and the mean evidence of what is known."""
    mean, deviation = features.mean((0, 1)), features.flatten(0, 1).std(0, correction=0)
    distance = (features - (mean - 0.6745 * deviation)).norm(dim=-1)
    strength = torch.zeros(GRID)
    for y, x in itertools.product(*map(range, GRID)):
        near = slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2)
        # the border's neighbours count as places without evidence
        seen_of_near = (distance * known)[near].sum() / max(known[near].sum(), 1e-6)
        strength[y, x] = seen_of_near * known[near].numel() / 9
    greatest = strength.max().clamp(min=1e-6)
    evidence = (strength / greatest).clamp(min=1e-6) ** 4
    return evidence, greatest, (evidence * known).sum() / known.sum().clamp(min=1e-6)


def test_evidence_follows_the_formula_is_even_where_no_features_differ_and_carries_no_gradient():
    features = torch.cat([torch.randn(3, *GRID, 5), torch.full((1, *GRID, 5), 0.5)]).requires_grad_()
    found = evidence_map(features)
    expected = torch.stack([_reference_evidence(image, torch.ones(GRID))[0] for image in features.detach()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not found.requires_grad and len(found[3].unique()) == 1


@pytest.mark.parametrize('index', [None, [1, 2, 3, 4, 5, 0]], ids=str)
def test_evidence_of_what_is_not_known_is_the_mean_of_both_images(index):
    mixing = Mixing(6, torch.rand(6, 1, 12, 8) < 0.5, index=None if index is None else torch.tensor(index))
    features, known = torch.randn(6, *GRID, 5), torch.rand(6, *GRID)
    known[0], known[1, 0], known[2, 1:] = 1., 0., 0.
    parts = [_reference_evidence(image, share) for image, share in zip(features, known)]
    expected = []
    for i, (evidence, greatest, density) in enumerate(parts):
        _, other, partners = parts[index[i] if index else 5 - i]
        unseen = (density * partners * (other / greatest) ** 4).sqrt()
        expected.append(evidence * known[i] + (1 - known[i]) * unseen)
    found = evidence_map(features, known, mixing)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[0], evidence_map(features[:1])[0])
