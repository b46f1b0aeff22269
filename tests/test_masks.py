"""Masks that follow timm's transforms."""
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_dataset, create_transform
from timm.data.auto_augment import RandAugment, augment_and_mix_transform
from torchvision import transforms

from timm_sumix import SUMixMixup
from timm_sumix.masks import MaskedDataset

CUTMIX = {'mixup_alpha': 0., 'cutmix_alpha': 1., 'mode': 'elem', 'num_classes': 4, 'label_smoothing': 0.}


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
    assert dataset[0][2].isfinite().all()
    assert MaskedDataset(images, lambda i: None, _transform())[0][2].isnan().all()


def _folder(path):
    """An ImageFolder of four classes whose images are of one red each, and whose second file is no image."""
    for label in range(4):
        (path / f'class{label}').mkdir()
        Image.new('RGB', (40, 40), (50 * (label + 1), 0, 0)).save(path / f'class{label}' / 'image.png')
    (path / 'class1' / 'image.png').write_bytes(b'not an image')
    return create_dataset('', str(path))


def _mask_of(index):
    return Image.new('L', (40, 40), 50 * (index + 1))


def test_an_image_that_is_read_in_the_place_of_an_unreadable_one_has_its_own_mask(tmp_path):
    dataset = MaskedDataset(_folder(tmp_path), _mask_of, _transform())
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=1)  # the reader travels to the worker
    images, labels, masks = next(iter(loader))
    assert labels.tolist() == [0, 2, 2, 3]
    torch.testing.assert_close(masks[:, 0], images[:, 0])


def test_an_unreadable_image_that_cannot_be_told_from_another_is_an_error(tmp_path):
    folder, order = _folder(tmp_path), (3, 1, 0)
    for wrapping in (torch.utils.data.Subset(folder, order), torch.utils.data.ConcatDataset([folder])):
        name = type(wrapping).__name__
        places = order if name == 'Subset' else range(4)
        dataset = MaskedDataset(wrapping, lambda index, places=places: _mask_of(places[index]), _transform())
        image, label, mask = dataset[0]
        assert label == places[0] and torch.allclose(mask[0], image[0])
        with pytest.raises(RuntimeError, match=f'image 1 is unreadable, and {name} does not tell which was read'):
            dataset[1]


def test_loader_and_mixup_take_what_the_data_set_gives():
    images = _images()
    dataset = MaskedDataset(images, lambda i: images[i][0].getchannel('R'), _transform(auto_augment='3a'))
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=1)
    x, labels, objects = next(iter(loader))
    mixed, target = SUMixMixup(**CUTMIX)(x, labels, objects)
    assert mixed.shape == (4, 3, 32, 32) and target.known is not None


@pytest.fixture
def seeds():
    """Return a function that seeds all generators that timm's transforms draw from."""
    def seed(number):
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
    return seed


def _moves(**kwargs):
    """A transform whose RandAugment only moves pixels, so that the red channel stays the object."""
    whole = create_transform(
        48, is_training=True, auto_augment='rand-m9-n3-mstd0.5', mean=(0., 0., 0.), std=(1., 1., 1.), **kwargs)
    for step in whole.transforms:
        if isinstance(step, RandAugment):
            step.ops = [operation for operation in step.ops if operation.name.startswith(('Rotate', 'Shear', 'Trans'))]
            assert len(step.ops) == 5
    return whole


@pytest.mark.parametrize('kwargs', [
    {}, {'re_prob': 1.}, {'re_prob': 1., 're_count': 3}, {'train_crop_mode': 'rkrc'}, {'train_crop_mode': 'rkrr'},
    {'interpolation': 'bicubic', 'scale': (0.3, 1.)}], ids=str)
def test_a_mask_follows_randaugment_and_random_erasing(kwargs, seeds):
    images = _images()
    dataset = MaskedDataset(images, lambda i: images[i][0].getchannel('R'), _moves(**kwargs))
    seeds(0)
    differing, total, seen = 0, 0, set()
    for i in [0, 1, 2, 3] * 25:
        image, _, mask = dataset[i]
        # the image is interpolated where the mask takes the nearest pixel: edges differ, by half a pixel for each move
        differing += ((image[0] > 0.5) != (mask[0] > 0.5)).sum().item()
        total += image[0].numel()
        seen.add(mask.sum().item())
    assert differing / total < 0.008 and len(seen) > 50
    if kwargs.get('re_prob'):
        erased = (image == 0).all(0)  # black is also what is moved in
        assert erased.any() and (mask[0][erased] < 0.6).all()


@pytest.mark.parametrize('augment', ['rand-m9-mstd0.5-inc1', 'original', '3a', 'v0', None])
def test_an_image_is_drawn_as_it_would_be_without_a_mask(augment, seeds):
    images = _images()
    transform = create_transform(48, is_training=True, auto_augment=augment, re_prob=0.5, re_mode='pixel')
    masked = MaskedDataset(images, lambda i: images[i][0].getchannel('R'), transform)
    unknown = MaskedDataset(images, lambda i: None, transform)
    drawn = []
    for draw in (lambda i: transform(images[i][0]), lambda i: masked[i][0], lambda i: unknown[i][0]):
        seeds(1)
        drawn.append(torch.stack([draw(i) for i in (0, 1, 2, 3) * 4]))
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


def test_the_given_transform_is_left_as_it_is(seeds):
    images, transform = _images(), _moves()
    before = [operation.aug_fn for operation in transform.transforms[2].ops]
    MaskedDataset(images, lambda i: images[i][0].getchannel('R'), transform)[0]
    assert [operation.aug_fn for operation in transform.transforms[2].ops] == before


def test_workers_that_are_started_anew_draw_the_same(seeds):
    dataset = MaskedDataset(_images(), _red, _moves(re_prob=1.))
    batches = []
    for context in ('fork', 'spawn'):
        seeds(0)
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=4, num_workers=1, multiprocessing_context=context, worker_init_fn=_seed_worker)
        batches.append(next(iter(loader)))
    assert all(torch.equal(*pair) for pair in zip(*batches))


def _red(index):
    return _images()[index][0].getchannel('R')


def _seed_worker(worker):
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)


@pytest.mark.parametrize('unknown, name', [
    (transforms.RandomRotation(10), 'RandomRotation'), (transforms.AutoAugment(), 'AutoAugment'),
    (augment_and_mix_transform('augmix-m3', {}), 'AugMixAugment'), (lambda image: image, 'function'),
    (transforms.Compose([transforms.RandomApply([transforms.RandomRotation(10)])]), 'RandomApply')])
@pytest.mark.parametrize('parts', [1, 3])
def test_a_step_that_a_mask_cannot_follow_is_an_error(unknown, name, parts):
    first, _, last = _transform()
    transform = (first, unknown, last) if parts == 3 else transforms.Compose([first, unknown, last])
    with pytest.raises(ValueError, match=f'of steps that a mask can follow, got .*{name}'):
        MaskedDataset(_images(), lambda i: None, transform)


def test_a_transform_must_be_given_and_make_a_tensor():
    with pytest.raises(ValueError, match='transform must be set before images are read, got None'):
        MaskedDataset(_images(), lambda i: None)[0]
    with pytest.raises(ValueError, match=r"must make a tensor of the image, got \['RandomHorizontalFlip'\]"):
        MaskedDataset(_images(), lambda i: None, transforms.Compose([transforms.RandomHorizontalFlip()]))


@pytest.mark.parametrize('kwargs', [
    {}, {'auto_augment': '3a'}, {'grayscale_prob': 0.1}, {'gaussian_blur_prob': 0.1}, {'color_jitter_prob': 0.5},
    {'normalize': False}, {'use_prefetcher': True}, {'no_aug': True}, {'separate': False}], ids=str)
def test_colours_may_change(kwargs):
    transform = create_transform(32, is_training=True, **{'separate': 'no_aug' not in kwargs, **kwargs})
    images = _images()
    image, _, mask = MaskedDataset(images, lambda i: images[i][0].getchannel('R'), transform)[0]
    assert image.shape == (3, 32, 32) and mask.shape == (1, 32, 32) and 0 <= mask.min() <= mask.max() == 1


@pytest.mark.parametrize('mode', ['P', 'I', 'RGBA'])
def test_a_mask_of_another_mode_is_an_error(mode):
    dataset = MaskedDataset(_images(), lambda i: Image.new(mode, (80, 80)), _transform())
    with pytest.raises(ValueError, match=f"mask 2 must be a PIL image of mode '1' or 'L', .* got mode '{mode}'"):
        dataset[2]


def test_a_mask_of_another_size_is_named():
    dataset = MaskedDataset(_images(), lambda i: Image.new('L', (10, 10)), _transform())
    with pytest.raises(ValueError, match=r'of the size of its image, \(80, 80\), .* got mode .L., \(10, 10\)'):
        dataset[2]


def test_a_mask_of_zeros_and_ones_is_not_taken_for_nearly_black():
    mask = Image.fromarray(np.tile(np.array([0, 1], dtype=np.uint8), (80, 40)))
    with pytest.raises(ValueError, match=r'white \(255\) where the object is, .* up to 1'):
        MaskedDataset(_images(), lambda i: mask, _transform())[2]
    whole, none = (Image.new('1', (80, 80), value) for value in (1, 0))
    for good in (whole, none, none.convert('L'), mask.point(lambda value: 255 * value)):
        MaskedDataset(_images(), lambda i, good=good: good, _transform())[2]
