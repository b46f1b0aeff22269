"""Masks that follow timm's transforms."""
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_dataset, create_transform
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


@pytest.mark.parametrize('kwargs, named', [
    ({'auto_augment': 'rand-m9-mstd0.5'}, 'Rotate'), ({'auto_augment': 'original'}, 'ShearX'),
    ({'auto_augment': 'augmix-m3'}, 'Translate'), ({'re_prob': 0.5}, 'RandomErasing')])
def test_transforms_that_masks_cannot_follow_are_an_error(kwargs, named):
    with pytest.raises(ValueError, match=f'must crop and flip in its first part alone.*{named}'):
        MaskedDataset(_images(), lambda i: None, _transform(**kwargs))


@pytest.mark.parametrize('unknown, name', [
    (transforms.RandomRotation(10), 'RandomRotation'), (transforms.AutoAugment(), 'AutoAugment'),
    (transforms.Compose([transforms.RandomApply([transforms.RandomRotation(10)])]), 'RandomRotation')])
def test_a_later_transform_that_is_not_known_is_an_error(unknown, name):
    first, _, last = _transform()
    with pytest.raises(ValueError, match=f'got .*{name}'):
        MaskedDataset(_images(), lambda i: None, (first, unknown, last))


@pytest.mark.parametrize('kwargs', [
    {}, {'auto_augment': '3a'}, {'grayscale_prob': 0.1}, {'gaussian_blur_prob': 0.1}, {'color_jitter_prob': 0.5},
    {'normalize': False}, {'use_prefetcher': True}], ids=str)
def test_colours_may_change(kwargs):
    transform = create_transform(32, is_training=True, separate=True, **kwargs)
    assert MaskedDataset(_images(), lambda i: None, transform)[0][0].shape == (3, 32, 32)


@pytest.mark.parametrize('mode', ['P', 'I', 'RGBA'])
def test_a_mask_of_another_mode_is_an_error(mode):
    dataset = MaskedDataset(_images(), lambda i: Image.new(mode, (80, 80)), _transform())
    with pytest.raises(ValueError, match=f"mask 2 must be a PIL image of mode '1' or 'L', .* got mode '{mode}'"):
        dataset[2]


def test_a_transform_in_one_part_is_an_error():
    with pytest.raises(TypeError, match='three parts of create_transform.*, got Compose'):
        MaskedDataset(_images(), lambda i: None, create_transform(32, is_training=True))


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
