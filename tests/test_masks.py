"""Masks of objects: labels by what is visible of each, and masks that follow timm's transforms."""
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from benchmarks.labels.truth import true_shares
from timm_sumix import MixedTarget, SUMixMixup, SUMixTask, correct
from timm_sumix.masks import MaskedDataset
from timm_sumix.mixing.policies import POLICIES

CUTMIX = {'mixup_alpha': 0., 'cutmix_alpha': 1., 'mode': 'elem', 'num_classes': 4, 'label_smoothing': 0.}


def _halves():
    """Four images of 8 x 8: left half of the first is shown; objects at the left, at the right, whole, unknown."""
    mask = torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    mask[..., :4] = True
    objects = torch.zeros(4, 1, 8, 8)
    objects[0, 0, 2:4, :4] = 1.  # wholly visible as a first image, not at all as a partner
    objects[1, 0, 2:6, 5:7] = 1.  # not visible as a first image, wholly as a partner
    objects[2, 0] = 1.  # half of it visible, either way
    return mask, objects


def _target(index, objects, **kwargs):
    mask = _halves()[0]
    return MixedTarget(torch.arange(4), torch.full((4,), 0.5), 4, index=torch.tensor(index), mask=mask,
                       object_mask=objects, **kwargs)


def test_lam_is_the_visible_share_of_the_objects_where_both_are_known():
    target = _target([1, 2, 0, 0], _halves()[1])
    # 0: a whole, b whole; 1: a hidden, b half; 2: a half, b hidden; 3: unknown
    torch.testing.assert_close(target.lam, torch.tensor([0.5, 0., 1., 0.5]))
    assert target.known.tolist() == [True, True, True, False]
    torch.testing.assert_close(target.area, torch.full((4,), 0.5))


def test_where_neither_object_is_visible_the_area_stays_and_may_be_corrected():
    target = _target([1, 0, 2, 3], _halves()[1])  # 1: its own object is hidden, and so is its partner's
    assert target.lam[1] == 0.5 and not target.known[1]


def test_soft_masks_count_by_their_values():
    objects = _halves()[1]
    objects[2, 0, :, 4:] = 0.5  # two thirds of this object are in the half that is shown
    target = _target([2, 2, 1, 3], objects)
    torch.testing.assert_close(target.lam[0], torch.tensor(1. / (1. + 1. / 3.)))
    torch.testing.assert_close(target.lam[2], torch.tensor((2. / 3.) / (2. / 3. + 1.)))


@pytest.mark.parametrize('policy', list(POLICIES))
def test_by_every_policy_lam_is_the_true_share(policy):
    torch.manual_seed(0)
    objects = torch.zeros(16, 1, 32, 32)
    for i, (top, left) in enumerate(torch.randint(0, 20, (16, 2)).tolist()):
        objects[i, 0, top:top + 10, left:left + 12] = 1.
    mixup = SUMixMixup(**{**CUTMIX, 'cutmix_alpha': 0.}, policy=policy)
    _, target = mixup(torch.randn(16, 3, 32, 32), torch.arange(16) % 4, objects)
    true = true_shares(objects[:, 0] > 0, target)
    assert target.known.any()
    torch.testing.assert_close(target.lam[target.known], true[target.known])


def test_no_ratio_corrects_a_share_that_masks_tell(small_model):
    torch.manual_seed(0)
    x, labels = torch.randn(8, 3, 64, 64), torch.arange(8) % 4
    objects = torch.zeros(8, 1, 32, 32)
    objects[:6, 0, 8:24, 8:24] = 1.  # two are not known, nor are then their partners' pairs
    mixed, target = SUMixMixup(**CUTMIX)(x, labels, objects)
    corrected = correct(small_model.eval(), mixed, target)
    assert target.known.sum() >= 2
    torch.testing.assert_close(corrected[target.known], target.lam[target.known])
    assert (corrected[~target.known] != target.lam[~target.known]).any()
    task = SUMixTask(small_model, SUMixMixup(**CUTMIX), verbose=False, fade=0.5)
    result = task(mixed, target)
    result['loss'].backward()
    torch.testing.assert_close(result['lam'][target.known], target.lam[target.known])


@pytest.fixture
def small_model():
    import timm
    torch.manual_seed(0)
    return timm.create_model('resnet10t', num_classes=4)


def test_a_batch_that_is_not_mixed_keeps_its_labels():
    mixup = SUMixMixup(**CUTMIX, prob=0.)
    _, target = mixup(torch.randn(4, 3, 8, 8), torch.arange(4), _halves()[1])
    assert target.lam.tolist() == [1.] * 4 and target.known is None


def test_a_copy_on_another_device_has_the_same_shares():
    target = _target([1, 2, 0, 0], _halves()[1])
    copy = target.to(torch.device('cpu'))
    assert torch.equal(copy.lam, target.lam) and torch.equal(copy.area, target.area)
    assert torch.equal(copy.known, target.known)


@pytest.mark.parametrize('objects, message', [
    (torch.zeros(4, 8, 8), r'object_mask must be \[4, 1, H, W\], a mask for each image, got \[4, 8, 8\]'),
    (torch.zeros(3, 1, 8, 8), r'object_mask must be \[4, 1, H, W\]'),
    (torch.full((4, 1, 8, 8), 255.), r'object_mask must be bool or in \[0, 1\], got values from 255.0 to 255.0'),
])
def test_masks_of_a_wrong_shape_or_range_are_an_error(objects, message):
    with pytest.raises(ValueError, match=message):
        SUMixMixup(**CUTMIX)(torch.randn(4, 3, 8, 8), torch.arange(4), objects)


def test_masks_of_objects_need_the_mask_of_the_mixing():
    with pytest.raises(ValueError, match='object_mask needs the mask that the images were mixed by, got mask None'):
        MixedTarget(torch.arange(4), torch.full((4,), 0.5), 4, object_mask=torch.zeros(4, 1, 8, 8))


def _images():
    """Pictures whose red channel is their object: what a transform does to one must happen to the mask."""
    generator = np.random.default_rng(0)
    pairs = []
    for label in range(4):
        pixels = np.zeros((60 + 10 * label, 80, 3), dtype=np.uint8)
        top, left = generator.integers(5, 25, 2)
        pixels[top:top + 30, left:left + 40, 0] = 255
        pairs.append((Image.fromarray(pixels), label))
    return pairs


def _transform(**kwargs):
    return create_transform(
        32, is_training=True, separate=True, vflip=0.5, color_jitter=None, mean=(0., 0., 0.), std=(1., 1., 1.),
        **kwargs)


def test_a_mask_is_cropped_and_flipped_as_its_image():
    images = _images()
    dataset = MaskedDataset(images, lambda i: images[i][0].getchannel('R'), _transform())
    torch.manual_seed(0)
    random.seed(0)
    seen = set()
    for i in list(range(len(dataset))) * 5:
        image, label, mask = dataset[i]
        assert image.shape == (3, 32, 32) and mask.shape == (1, 32, 32) and label == i
        torch.testing.assert_close(mask[0], image[0], atol=2 / 255, rtol=0)
        seen.add(mask.sum().item())
    assert len(seen) > 10  # the crops differ


def test_masks_change_nothing_that_is_drawn():
    images, drawn = _images(), []
    for mask in (lambda i: None, lambda i: images[i][0].getchannel('R')):
        random.seed(1)
        torch.manual_seed(1)
        dataset = MaskedDataset(images, mask, _transform())
        drawn.append(torch.stack([dataset[i][0] for i in (0, 1, 2, 3) * 2]))
    assert torch.equal(*drawn)
    assert dataset[0][2].sum() >= 0 and MaskedDataset(images, lambda i: None, _transform())[0][2].sum() == 0


def test_loader_and_mixup_take_what_the_data_set_gives():
    images = _images()
    dataset = MaskedDataset(images, lambda i: images[i][0].getchannel('R'), _transform(auto_augment='3a'))
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=1)
    x, labels, objects = next(iter(loader))
    mixed, target = SUMixMixup(**CUTMIX)(x, labels, objects)
    assert mixed.shape == (4, 3, 32, 32) and target.known is not None


@pytest.mark.parametrize('kwargs, named', [
    ({'auto_augment': 'rand-m9-mstd0.5'}, 'Rotate'), ({'auto_augment': 'original'}, 'ShearX'),
    ({'auto_augment': 'augmix-m3'}, 'Translate'), ({'re_prob': 0.5}, 'RandomErasing')])
def test_transforms_that_masks_cannot_follow_are_an_error(kwargs, named):
    with pytest.raises(ValueError, match=f'must crop and flip in its first part alone.*{named}'):
        MaskedDataset(_images(), lambda i: None, _transform(**kwargs))


def test_a_transform_in_one_part_is_an_error():
    with pytest.raises(TypeError, match='three parts of create_transform.*, got Compose'):
        MaskedDataset(_images(), lambda i: None, create_transform(32, is_training=True))


def test_a_mask_of_another_size_is_named():
    dataset = MaskedDataset(_images(), lambda i: Image.new('L', (10, 10)), _transform())
    with pytest.raises(ValueError, match=r'mask 2 must be of the size of its image, \(80, 80\), got \(10, 10\)'):
        dataset[2]
