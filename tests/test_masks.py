"""Masks that follow timm's transforms."""
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import ImageDataset, create_dataset, create_transform
from timm.data.auto_augment import RandAugment, augment_and_mix_transform
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from timm_sumix.masks import MaskedDataset

PLAIN = {'color_jitter': None, 'mean': (0., 0., 0.), 'std': (1., 1., 1.)}


def _images():
    """Pictures whose red channel is their object: what a transform does to one must happen to the mask."""
    generator = np.random.default_rng(0)
    for label in range(4):
        pixels = np.zeros((60 + 10 * label, 80, 3), dtype=np.uint8)
        top, left = generator.integers(5, 25, 2)
        pixels[top:top + 30, left:left + 40, 0] = 255
        yield Image.fromarray(pixels), label


IMAGES = list(_images())


def _red(index):
    return IMAGES[index][0].getchannel('R')


def _none(index):
    return None


def _transform(**kwargs):
    return create_transform(32, is_training=True, separate=True, vflip=0.5, **PLAIN, **kwargs)


def _seed(number=0):
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def _folder(path):
    """An ImageFolder of four classes whose images are of one red each, and whose second file is no image."""
    for label in range(4):
        (path / f'class{label}').mkdir()
        Image.new('RGB', (40, 40), (255 - 20 * label, 0, 0)).save(path / f'class{label}' / 'image.png')
    (path / 'class1' / 'image.png').write_bytes(b'not an image')
    return create_dataset('', str(path))


def _mask_of(index):
    return Image.new('L', (40, 40), 255 - 20 * index)


def test_an_image_that_is_read_in_the_place_of_an_unreadable_one_has_its_own_mask(tmp_path):
    dataset = MaskedDataset(_folder(tmp_path), _mask_of, _transform())
    images, labels, masks = next(iter(DataLoader(dataset, 4, num_workers=1)))  # the reader travels to the worker
    assert labels.tolist() == [0, 2, 2, 3]
    torch.testing.assert_close(masks[:, 0], images[:, 0])


class _Wrapping(Dataset):
    def __init__(self, *inner, joint_transform=None):
        self.inner, self.joint_transform = list(inner), joint_transform


class _Blending(ImageDataset):
    def __getitem__(self, index):
        return Image.blend(super().__getitem__(2)[0], super().__getitem__(3)[0], 0.5), 0


def test_a_data_set_whose_items_may_be_made_of_others_is_an_error(tmp_path):
    folder = _folder(tmp_path)
    for own in (Subset(folder, [0]), ConcatDataset([folder]), _Wrapping(folder), _Blending(str(tmp_path))):
        with pytest.raises(ValueError, match=f'must read its images itself, got {type(own).__name__}, .* wrap it'):
            MaskedDataset(own, _mask_of)
    image, label, mask = Subset(MaskedDataset(folder, _mask_of, _transform()), [3])[0]
    assert label == 3 and torch.allclose(mask[0], image[0])


@pytest.mark.parametrize('item, got', [
    ({'image': IMAGES[0][0], 'label': 0}, 'dict'), ((torch.zeros(3, 8, 8), 0), r"\['Tensor', 'int'\]"),
    ((np.zeros((8, 8, 3)), 0), r"\['ndarray', 'int'\]"), ((b'', 0), r"\['bytes', 'int'\]"),
    ((IMAGES[0][0], 0, 1), r"\['Image', 'int', 'int'\]"), (IMAGES[0][0], 'Image')])
def test_an_item_must_be_a_pair_of_a_pil_image_and_a_class(item, got):
    with pytest.raises(ValueError, match=f'must be pairs of a PIL image and a class, got {got} as item 0'):
        MaskedDataset([item], _red, _transform())[0]


def test_a_transform_of_the_data_set_comes_first_for_both(tmp_path):
    for image, label in IMAGES:
        (tmp_path / str(label)).mkdir()
        image.save(tmp_path / str(label) / '0.png')
    flip, plain = transforms.RandomHorizontalFlip(1.), create_transform(64, is_training=True, no_aug=True, **PLAIN)
    for kind in (ImageFolder, ImageDataset):
        inner = kind(str(tmp_path), transform=flip, target_transform=lambda label: 7)
        image, label, mask = MaskedDataset(inner, _red, plain)[2]
        wanted = plain(flip(IMAGES[2][0]))
        assert torch.equal(image, wanted) and torch.allclose(mask[0], wanted[0], atol=2 / 255) and label == 7
        assert inner.transform is flip  # is left as it is
    with pytest.raises(ValueError, match='of steps that a mask can follow, got RandomRotation'):
        MaskedDataset(ImageFolder(str(tmp_path), transform=transforms.RandomRotation(9)), _red, plain)[0]
    joint = ImageFolder(str(tmp_path))
    joint.transforms = lambda image, label: (image, label)
    for own, name in ((joint, 'transforms'), (_Wrapping(joint_transform=flip), 'joint_transform')):
        with pytest.raises(ValueError, match=f'must have no {name} that moves images alone, got that of'):
            MaskedDataset(own, _red, plain)


def _moves(**kwargs):
    """A transform whose RandAugment only moves pixels, so that the red channel stays the object."""
    whole = create_transform(48, is_training=True, **{'auto_augment': 'rand-m9-n3-mstd0.5', **PLAIN, **kwargs})
    for step in whole.transforms:
        if isinstance(step, RandAugment):
            step.ops = [operation for operation in step.ops if operation.name.startswith(('Rotate', 'Shear', 'Trans'))]
            assert len(step.ops) == 5
    return whole


@pytest.mark.parametrize('kwargs', [
    {}, {'re_prob': 1.}, {'re_prob': 1., 're_count': 3}, {'train_crop_mode': 'rkrc'}, {'train_crop_mode': 'rkrr'},
    {'interpolation': 'bicubic', 'scale': (0.3, 1.)}, {'auto_augment': None, 'vflip': 0.5}], ids=str)
def test_a_mask_follows_crops_flips_randaugment_and_random_erasing(kwargs):
    dataset = MaskedDataset(IMAGES, _red, _moves(**kwargs))
    _seed()
    differing, total, seen = 0, 0, set()
    for i in [0, 1, 2, 3] * 25:
        image, label, mask = dataset[i]
        assert image.shape == (3, 48, 48) and mask.shape == (1, 48, 48) and label == i
        if 'auto_augment' in kwargs:
            torch.testing.assert_close(mask[0], image[0], atol=2 / 255, rtol=0)
        # the image is interpolated where the mask takes the nearest pixel: edges differ, by half a pixel for each move
        differing += ((image[0] > 0.5) != (mask[0] > 0.5)).sum().item()
        total += image[0].numel()
        seen.add(mask.sum().item())
    assert differing / total < 0.008 and len(seen) > 50
    if kwargs.get('re_prob'):
        erased = (image == 0).all(0)  # black is also what is moved in
        assert erased.any() and (mask[0][erased] < 0.6).all()


@pytest.mark.parametrize('kwargs', [
    *({'auto_augment': augment} for augment in ('rand-m9-mstd0.5-inc1', 'original', '3a', 'v0')), {}, {'no_aug': True},
    {'separate': True}, {'auto_augment': '3a', 'separate': True}, {'grayscale_prob': 0.1}, {'gaussian_blur_prob': 0.1},
    {'color_jitter_prob': 0.5}, {'normalize': False}, {'use_prefetcher': True}], ids=str)
def test_an_image_is_drawn_as_it_would_be_without_a_mask_by_the_transform_that_stays_as_it_is(kwargs):
    transform = create_transform(48, is_training=True, vflip=0.5, re_prob=0.5, re_mode='pixel', **kwargs)
    masked, unknown = (MaskedDataset(IMAGES, mask, transform) for mask in (_red, _none))
    whole = transforms.Compose(transform) if 'separate' in kwargs else transform
    drawn = []
    for draw in (lambda i: masked[i][0], lambda i: unknown[i][0], lambda i: whole(IMAGES[i][0])):
        _seed(1)
        drawn.append(torch.stack([draw(i) for i in (0, 1, 2, 3) * 4]))
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])
    masks = torch.stack([masked[i][2] for i in range(4)])
    assert masks.shape == (4, 1, 48, 48) and 0 <= masks.min() <= masks.max() == 1 and unknown[0][2].isnan().all()


def test_workers_that_are_started_anew_draw_the_same():
    dataset, batches = MaskedDataset(IMAGES, _red, _moves(re_prob=1.)), []
    for context in ('fork', 'spawn'):
        batches += DataLoader(dataset, 4, num_workers=1, multiprocessing_context=context, worker_init_fn=_seed)
    assert all(torch.equal(*pair) for pair in zip(*batches))


def test_threads_do_not_take_each_others_draws(tmp_path):
    dataset = MaskedDataset(IMAGES, _red, _moves())
    unreadable = MaskedDataset(_folder(tmp_path), _mask_of, _transform())
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns in the midst of everything
    with ThreadPoolExecutor(8) as pool:
        moved, read = (list(pool.map(data.__getitem__, [0, 1, 2, 3] * 25)) for data in (dataset, unreadable))
    sys.setswitchinterval(interval)
    assert np.mean([((image[0] > 0.5) != (mask[0] > 0.5)).float().mean() for image, _, mask in moved]) < 0.008
    assert all(torch.allclose(image[0], mask[0]) for image, _, mask in read)


class _Flip(transforms.RandomHorizontalFlip):
    """A step of one's own."""


@pytest.mark.parametrize('unknown, name', [
    (transforms.RandomRotation(10), 'RandomRotation'), (transforms.AutoAugment(), 'AutoAugment'),
    (augment_and_mix_transform('augmix-m3', {}), 'AugMixAugment'), (lambda image: image, 'function'),
    (_Flip(), '_Flip'), (transforms.Compose([transforms.RandomApply([transforms.RandomRotation(10)])]), 'RandomApply')])
def test_a_step_that_a_mask_cannot_follow_is_an_error_as_no_transform_and_one_to_no_tensor(unknown, name):
    first, _, last = _transform()
    for transform in ((first, unknown, last), (unknown, first, last), transforms.Compose([first, unknown, last])):
        with pytest.raises(ValueError, match=f'of steps that a mask can follow, got .*{name}'):
            MaskedDataset(IMAGES, _none, transform)[0]
    for transform, message in (
            (None, 'transform must be set before images are read, got None'),
            (transforms.Compose([transforms.RandomHorizontalFlip()]),
             r"must make a tensor of the image, got \['RandomHorizontalFlip'\]")):
        with pytest.raises(ValueError, match=message):
            MaskedDataset(IMAGES, _none, transform)[0]


def _of_values(*values):
    return Image.fromarray(np.resize(np.array(values, dtype=np.uint8), (80, 80)))


FIT = r"a PIL image of mode '1' or 'L', of the size of its image, \(80, 80\), .* got "


@pytest.mark.parametrize('mask, message', [
    *((Image.new(mode, (80, 80)), f"{FIT}mode '{mode}'") for mode in ('P', 'I', 'RGBA', 'F', 'I;16', 'LA')),
    (Image.new('L', (10, 10)), rf"{FIT}mode 'L', \(10, 10\)"), (np.zeros((80, 80)), f"{FIT}mode 'ndarray'"),
    *((_of_values(*values), rf'white \(255\) where the object is .*, got \{sorted({*values} - {0})} beside 0')
      for values in ((0, 1), (0, 1, 4), (0, 1, 2, 3), (1, 2, 3), (0, 15, 15, 255), (0, 90))),
    (Image.new('1', (80, 80), 1), None), (Image.new('1', (80, 80)), None), (Image.new('L', (80, 80)), None),
    (_of_values(0, 255), None), (_of_values(0, 64, 255, 255), None), (_of_values(*range(100)), None)])
def test_masks_black_and_white_with_soft_edges_are_read_and_others_named(mask, message):
    dataset = MaskedDataset(IMAGES, lambda i: mask, _transform())
    if message is None:
        assert dataset[2][2].isfinite().all()
    else:
        with pytest.raises(ValueError, match=f'mask 2 must be {message}'):
            dataset[2]


@pytest.mark.parametrize('exif', [0, 1, *range(2, 9), 9, b'damaged'])
def test_an_orientation_in_exif_is_an_error(tmp_path, exif):
    tag = Image.Exif()
    tag[0x0112] = exif
    for part, turned in (('image', IMAGES[2][0]), ('mask', _red(2))):
        turned.save(tmp_path / '0.png', exif=exif if isinstance(exif, bytes) else tag)
        pair = {'image': IMAGES[2][0], 'mask': _red(2), part: Image.open(tmp_path / '0.png').convert(turned.mode)}
        dataset = MaskedDataset([(pair['image'], 0)], lambda i, pair=pair: pair['mask'], _transform())
        if exif in range(2, 9):
            with pytest.raises(ValueError, match=f'mask 0 .* upright, got EXIF orientation {exif} in the {part}'):
                dataset[0]
            dataset.mask = _none
        assert dataset[0][2].isnan().all() == (exif in range(2, 9))
