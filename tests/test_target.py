import pytest
import timm.utils
import torch
import torch.nn.functional as F
from helpers import random_images, reference_dense
from timm.loss import SoftTargetCrossEntropy

from timm_sumix import MixedTarget, SUMixMixup
from timm_sumix.mixing import MODES
from timm_sumix.mixing.policies import POLICIES
from timm_sumix.region import Mixing

WHOLE = torch.ones(1, 1, 4, 4)


@pytest.mark.parametrize('index', [None, [2, 0, 1]])
def test_dense_mixes_smoothed_one_hot_vectors(index):
    labels, lam, other = torch.tensor([3, 0, 3]), torch.tensor([0.25, 1., 0.6]), torch.tensor([0., 0.5, 1.])
    partners = labels[index or [2, 1, 0]]
    target = MixedTarget(labels, lam, 5, 0.1, None if index is None else torch.tensor(index))
    torch.testing.assert_close(target.soft_target(), reference_dense(labels, partners, lam, 5, 0.1))
    torch.testing.assert_close(target.soft_target(other), reference_dense(labels, partners, other, 5, 0.1))
    assert torch.equal(target.partner_labels, partners)


@pytest.mark.parametrize('change, error, message', [
    ({'labels': torch.tensor([0., 1.])}, TypeError, 'labels must be an int64 tensor.*float32'),
    ({'labels': torch.tensor([0, 1], dtype=torch.int32)}, TypeError, 'labels must be an int64 tensor.*int32'),
    ({'labels': [0, 1]}, TypeError, 'labels must be an int64 tensor.*list'),
    ({'labels': torch.tensor([[0, 1], [1, 0]])}, ValueError, r'labels must have shape \[N\].*\[2, 2\]'),
    ({'labels': torch.tensor([0, 3])}, ValueError, r'labels must be in \[0, 3\), got values from 0 to 3'),
    ({'labels': torch.tensor([-1, 0])}, ValueError, r'labels must be in \[0, 3\), got values from -1 to 0'),
    ({'lam': torch.tensor([0.5])}, ValueError, r'lam must be floating point of shape \[2\]'),
    ({'lam': torch.tensor([0.5, 1.5])}, ValueError, r'lam must be in \[0, 1\].*1\.5'),
    ({'lam': torch.tensor([0.5, float('nan')])}, ValueError, r'lam must be in \[0, 1\]'),
    ({'smoothing': 1.}, ValueError, r'label smoothing must be in \[0, 1\), got 1'),
    ({'index': torch.tensor([0, 2])}, ValueError, r'index must be in \[0, 2\)'),
    ({'index': torch.tensor([0., 1.])}, TypeError, 'index must be int64'),
    ({'original': torch.rand(3, 3, 4, 4)}, ValueError, 'original must hold 2 images.*got 3'),
    ({'object_mask': torch.zeros(2, 1, 4, 4)}, ValueError, 'object_mask needs the mask that .*, got mask None'),
    ({'mask': torch.ones(3, 1, 4, 4)}, ValueError, r'mask must be \[1 or 2, 1, H, W\], got \[3, 1, 4, 4\]'),
    ({'mask': Mixing(3, WHOLE)}, ValueError, 'mask must be a Mixing of 2 images with the same index as the target'),
    ({'mask': Mixing(2, WHOLE), 'index': torch.tensor([1, 0])}, ValueError, 'mask must be a Mixing of 2 images'),
    ({'mask': Mixing(2, WHOLE, index=torch.tensor([0, 1]))}, ValueError, 'mask must be a Mixing of 2 images')])
def test_bad_values_are_refused(change, error, message):
    good = {'labels': torch.tensor([0, 2]), 'lam': torch.tensor([0.5, 1.]), 'num_classes': 3}
    with pytest.raises(error, match=message):
        MixedTarget(**{**good, **change})
    with pytest.raises(ValueError, match=r'partner_mask must be \[1 or 2, 1, H, W\], got \[2, 4, 4\]'):
        Mixing(2, WHOLE, torch.ones(2, 4, 4))


def test_what_is_shown_is_averaged_by_cell_and_is_the_rest_for_the_partner_and_without_a_mask_the_same_everywhere():
    mask, labels, lam = torch.zeros(1, 1, 4, 6), torch.tensor([0, 1]), torch.tensor([0.25, 0.5])
    mask[..., :3] = 1.
    target, bare = MixedTarget(labels, lam, 2, mask=mask), MixedTarget(labels, lam, 2)
    for size, row in (((2, 2), [1., 0.]), ((1, 3), [1., 0.5, 0.])):
        expected = torch.tensor(row).expand(2, *size)
        assert all(torch.equal(*pair) for pair in zip(target.visible_fraction(size), (expected, 1. - expected)))
        assert torch.equal(Mixing(2, mask, mask / 4).visible_fraction(size)[1], expected / 4)
        everywhere = lam.view(2, 1, 1).expand(2, *size)
        assert all(torch.equal(*pair) for pair in zip(bare.visible_fraction(size), (everywhere, 1. - everywhere)))
    assert bare.mixing is bare.mask is bare.partner_mask is bare.exact is None and len(bare) == 2


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('policy', list(POLICIES))
def test_a_mask_of_any_strides_is_averaged_right_on_a_gpu(policy, mode, monkeypatch):
    # torch's kernel there finds a plane by the stride of the dimension before the last two, also where its size is 1,
    # and contiguous() leaves that stride as it is
    pooled, pool = [], F.adaptive_avg_pool2d
    monkeypatch.setattr(F, 'adaptive_avg_pool2d', lambda x, size: (pooled.append(x.contiguous()), pool(x, size))[1])
    SUMixMixup(policy=policy, mode=mode, num_classes=10)(*random_images(8))[1].visible_fraction((4, 4))
    assert pooled and all(x.stride() == torch.empty(x.shape).stride() for x in pooled)


@pytest.mark.parametrize('use', [
    lambda output, target: output.argmax(1) == target, lambda output, target: target == output.argmax(1),
    timm.utils.accuracy, SoftTargetCrossEntropy(),
    F.cross_entropy, lambda output, target: output * target, lambda output, target: target.argmax(1)])
def test_its_use_as_a_tensor_is_an_error(use):
    target = MixedTarget(torch.tensor([0, 2]), torch.tensor([0.5, 1.]), 3)
    with pytest.raises((TypeError, AttributeError)) as error:
        use(torch.randn(2, 3), target)
    assert 'MixedTarget' in str(error.value)
    assert target == target and len({target, target}) == 1  # by identity


def test_whose_partner_is_in_its_place_is_told_by_what_is_visible_of_both():
    mask = torch.zeros(4, 1, 4, 4)
    mask[..., :2] = 1.
    partner_mask = 1. - mask
    partner_mask[1], partner_mask[2] = 0.5, mask[2] / 2
    assert Mixing(4, mask, partner_mask).partner_in_place((2, 2)).tolist() == [True, False, False, True]
    assert Mixing(4, mask).partner_in_place((2, 2)) is None
