"""Masks of objects: labels by what is visible of each."""
import pytest
import torch
from helpers import make_task, small_model
from timm.loss import SoftTargetCrossEntropy

from timm_sumix import MixedTarget, SUMixMixup
from timm_sumix.correction import RATIOS
from timm_sumix.correction.released import Released
from timm_sumix.region import Mixing

CUTMIX = {'mixup_alpha': 0., 'cutmix_alpha': 1., 'mode': 'elem', 'num_classes': 4, 'label_smoothing': 0.}

def _halves():
    """Four images of 8 x 8: left half of the first is shown; objects at the left, at the right, whole, not known."""
    mask = torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    mask[..., :4] = True
    objects = torch.zeros(4, 1, 8, 8)
    objects[0, 0, 2:4, :4] = 1.  # wholly visible as a first image, not at all as a partner
    objects[1, 0, 2:6, 5:7] = 1.  # not visible as a first image, wholly as a partner
    objects[2, 0] = 1.  # half of it visible, either way
    objects[3] = torch.nan
    return mask, objects


def _target(index, objects, exact=None):
    index = torch.tensor(index)
    mixing = Mixing(4, _halves()[0], index=index, exact=exact)
    return MixedTarget(torch.arange(4), torch.full((4,), 0.5), 4, index=index, mask=mixing, object_mask=objects)


NO_OBJECT, SOFT = (3, slice(None), 0.), (2, slice(4, 8), 0.5)  # image, columns and value of a mask that is changed


@pytest.mark.parametrize('index, change, lam, exact', [
    # a whole, b whole; a hidden, b half; a half, b hidden; unknown
    ([1, 2, 0, 0], None, [0.5, 0., 1., 0.5], [True, True, True, False]),
    # a hidden, and so is its partner: the area stays, and may be corrected
    ([1, 0, 2, 3], None, [0.5, 0.5, 0.5, 0.5], [True, False, True, False]),
    # of an object that the crop left out nothing is visible
    ([3, 2, 3, 2], NO_OBJECT, [1., 0., 1., 0.], [True] * 4),
    # a soft mask counts by its values: two thirds of that object are in the half that is shown
    ([2, 2, 1, 3], SOFT, [1. / (1. + 1. / 3.), 0., (2. / 3.) / (2. / 3. + 1.), 0.5], [True, True, True, False])])
def test_lam_is_the_visible_share_of_the_objects_where_both_are_known(index, change, lam, exact):
    objects = _halves()[1]
    if change:
        image, columns, value = change
        objects[image, 0, :, columns] = value
    target = _target(index, objects)
    torch.testing.assert_close(target.lam, torch.tensor(lam))
    assert target.exact.tolist() == exact and target.area.tolist() == [0.5] * 4


@pytest.mark.parametrize('policy', ['cutmix', 'saliencymix', 'fmix', 'gridmix'])
def test_lam_is_what_counting_the_pixels_gives(policy):
    objects = torch.zeros(16, 1, 32, 32)
    for i, (top, left) in enumerate(torch.randint(0, 20, (16, 2)).tolist()):
        objects[i, 0, top:top + 10, left:left + 12] = 1.
    # a pixel says which image it is of, and whether the object is there
    x = (torch.arange(16.) * 2).view(16, 1, 1, 1) + objects
    mixed, target = SUMixMixup(**CUTMIX, policy=policy)(x, torch.arange(16) % 4, objects)
    assert target.exact.any()
    for i in target.exact.nonzero()[:, 0].tolist():
        first, second = ((mixed[i] == 2 * image + 1).sum() / 120 for image in (i, 15 - i))
        torch.testing.assert_close(target.lam[i], first / (first + second))


def test_a_partner_that_is_shown_whole_and_small_counts_by_its_pixels():
    objects = torch.ones(16, 1, 32, 32)  # the objects fill their images
    _, target = SUMixMixup(**CUTMIX, policy='resizemix')(torch.randn(16, 3, 32, 32), torch.arange(16) % 4, objects)
    torch.testing.assert_close(target.lam, target.area)


@pytest.mark.parametrize('ratio', [ratio for ratio in RATIOS if ratio != 'released'])
def test_every_ratio_and_the_loss_keep_a_share_that_masks_tell_and_correct_the_others(ratio):
    objects, model = torch.zeros(8, 1, 64, 64), small_model(num_classes=4).eval()
    objects[..., 16:48, 16:48] = 1.
    objects[7] = torch.nan  # so that the first pair is not known
    task = make_task(model, 'elem', CUTMIX, ratio=ratio)
    mixed, target = task.mixup(torch.randn(8, 3, 64, 64), torch.arange(8) % 4, objects)
    result, known = task.train()(mixed, target), target.exact
    assert known.sum() >= 3 and not known[[0, 7]].any()
    torch.testing.assert_close(result['lam'][known], target.lam[known])
    assert (result['lam'][~known] != target.lam[~known]).any() == (ratio != 'area')
    expected = SoftTargetCrossEntropy()(result['output'], target.soft_target(result['lam']))
    torch.testing.assert_close(result['loss'], expected)


@pytest.mark.parametrize('ratio', ['released', Released()], ids=str)
def test_released_has_one_share_for_a_batch_and_takes_no_masks(ratio):
    task = make_task(small_model(num_classes=4), mixup=CUTMIX, ratio=ratio)
    mixed, target = task.mixup(torch.randn(8, 3, 64, 64), torch.arange(8) % 4, torch.ones(8, 1, 64, 64))
    with pytest.raises(ValueError, match="ratio 'released' gives a batch one share"):
        task(mixed, target)


def test_a_batch_that_is_not_mixed_keeps_its_labels():
    _, target = SUMixMixup(**CUTMIX, prob=0.)(torch.randn(4, 3, 8, 8), torch.arange(4), _halves()[1])
    assert target.lam.tolist() == [1.] * 4 and target.exact is None


def test_shares_that_masks_tell_and_those_of_mixup_are_both_known():
    objects, exact = _halves()[1], torch.tensor([False, False, False, True])
    target = _target([1, 2, 0, 0], objects, exact=exact)
    assert target.exact.all() and target.lam[3] == 0.5
    assert _target([1, 0, 2, 3], objects, exact=exact & False).exact.tolist() == [True, False, True, False]


@pytest.mark.parametrize('objects, message', [
    (torch.zeros(4, 8, 8), r'object_mask must be \[4, 1, H, W\], a mask for each image, got \[4, 8, 8\]'),
    (torch.zeros(3, 1, 8, 8), r'object_mask must be \[4, 1, H, W\]'),
    (torch.full((4, 1, 8, 8), 255.), r'object_mask must be bool or in \[0, 1\], got values from 255.0 to 255.0')])
def test_masks_of_a_wrong_shape_or_range_are_an_error(objects, message):
    with pytest.raises(ValueError, match=message):
        SUMixMixup(**CUTMIX)(torch.randn(4, 3, 8, 8), torch.arange(4), objects)
