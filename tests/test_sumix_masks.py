"""--sumix-masks: masks read beside the script's training pictures, up to the labels."""
import logging
import pickle
import re
import tarfile
from itertools import product
from unittest.mock import Mock

import numpy as np
import pytest
import timm.data
import torch
from helpers import read_summary
from PIL import Image
from timm.data import ImageDataset, create_dataset
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

import train_patch.masks
import train_patch.patch
from train_patch.masks import look_at_some, with_masks

RAW = ('--mean', 0, 0, 0, '--std', 1, 1, 1, '--color-jitter', 0)
ERASING = '--reprob 0.9 --remode const'
COUNT = 52  # pictures of a class; every seventh of all has no mask


def _mask_image(is_object, kind):
    """A mask as tools write them."""
    if kind == 'RGB':
        return Image.fromarray(np.stack([0 * is_object, 200 * is_object, 0 * is_object], -1).astype(np.uint8))
    value = {'1': 255, 'L': 255, 'P': 3, 'I;16': 300}.get(kind, 1)
    image = Image.fromarray((value * is_object).astype(np.uint16 if kind == 'I;16' else np.uint8))
    if kind == 'P':
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 0, 9, 9, 9])
    return image.convert('1') if kind == '1' else image


TRANSPARENT = Image.new('P', (8, 6), 1)
TRANSPARENT.info['transparency'] = 0
KINDS = ('1', 'L', 'zeros and ones', 'P', 'I;16', 'RGB')


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """Pictures, train/ and validation/, whose red channel is their object, and a folder of masks, of all kinds."""
    data, masks = tmp_path_factory.mktemp('data'), tmp_path_factory.mktemp('masks')
    generator = np.random.default_rng(0)
    own = [*product(['train'], range(4), range(COUNT)), *product(['validation'], range(4), range(4))]
    for number, (split, label, i) in enumerate(own, start=1):
        picture, mask = (folder / split / f'class{label}' / f'a.picture{i}.png' for folder in (data, masks))
        for path in (picture, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        height, width = generator.integers(40, 60, 2)
        top, left = generator.integers(0, 20, 2)
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        pixels[..., 1:] = generator.integers(0, 255, (height, width, 2))
        pixels[top:top + 22, left:left + 18, 0] = 255
        Image.fromarray(pixels).save(picture)
        if number % 7:
            _mask_image(pixels[..., 0] > 0, KINDS[number % len(KINDS)]).save(mask)
    return data, masks


@pytest.fixture
def seen(monkeypatch):
    """Batches as the mixing gets and gives them: (images with their masks as the last channel, target)."""
    batches = []
    mix = train_patch.masks.MaskedMixup.__call__

    def mix_and_note(self, x, labels):
        mixed, target = mix(self, x, labels)
        batches.append((x.clone(), target))
        return mixed, target

    monkeypatch.setattr(train_patch.masks.MaskedMixup, '__call__', mix_and_note)
    return batches


def _assert_labels_follow_masks(batches):
    """Count pixels; return how many labels the masks settle."""
    settled = 0
    for x, target in batches:
        masks, shown = x[:, -1].double(), target.mask.double().expand(len(x), 1, -1, -1)[:, 0]
        known = (masks <= 1.).all((1, 2))  # nor NaN
        first, second = (
            (mask * part).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1e-9)
            for mask, part in ((masks, shown), (masks.flip(0), 1. - shown)))
        exact = known & known.flip(0) & (first + second > 0.)
        assert torch.equal(target.exact, exact) and torch.equal(target.lam[~exact], target.area[~exact])
        torch.testing.assert_close(target.lam[exact].double(), (first / (first + second))[exact], atol=1e-5, rtol=0.)
        settled += exact.sum()
    return settled


@pytest.mark.parametrize('arguments', [
    '', '--aa rand-m9-mstd0.5-inc1', '--aa rand-m9-mstd0.5-inc1 --no-prefetcher', '--mixup-mode elem --channels-last'])
def test_labels_are_what_is_visible_of_the_augmented_masks(launch, pictures, seen, capfd, arguments):
    data, masks = pictures
    folder = launch('--sumix', '--sumix-masks', masks, '--reprob', 0.3, '--workers', 2, *arguments.split(), data=data)
    images = torch.cat([x for x, _ in seen])
    assert images.shape == (4 * COUNT, 4, 32, 32) and _assert_labels_follow_masks(seen) > 100
    with_mask = 4 * COUNT - 4 * COUNT // 7
    log = capfd.readouterr().err
    assert f'SUMix: epoch 0  {with_mask} of {4 * COUNT} images had a mask of their object' in log
    assert f'masks from {masks / "train"}: 55 of 64 pictures looked at have one, and objects take ' in log
    row = read_summary(folder)[-1]
    assert row['train_sumix_masks'] == pytest.approx(with_mask / (4 * COUNT)) and row['train_sumix_shift'] > 0.05


@pytest.mark.parametrize('arguments, is_erased', [
    ('', False), (ERASING, True), (f'--no-prefetcher {ERASING}', True), ('--workers 3 in a tar file', False)])
def test_each_image_has_its_own_mask(launch, pictures, pictures_in_tar, seen, arguments, is_erased):
    arguments, _, in_tar = arguments.partition(' in ')
    data, masks = pictures_in_tar if in_tar else pictures
    launch('--sumix', '--sumix-masks', masks, *RAW, *arguments.split(), data=data)
    images = torch.cat([x for x, _ in seen])
    known = images[images[:, -1].flatten(1).amax(1) <= 1]
    black = (known[:, :3] == 0).all(1)
    assert len(images) == 4 * COUNT and 0.8 < len(known) / len(images) < 0.9
    assert ((known[:, 0] > 0.5) != (known[:, -1] > 0.5)).float().mean((1, 2)).max() < 0.01
    assert (known[:, -1][black] < 0.5).all() and (black.sum() > 10_000) == is_erased


@pytest.mark.parametrize('arguments', [
    '--amp --amp-dtype bfloat16 --sumix-preview 4 --sumix-preset paper', '--sumix-ratio area --mixup-prob 0.5 --no-aug',
    '--sumix-policy resizemix --mixup-mode pair --mixup-off-epoch 1 --epochs 2'])
def test_trains_with_masks(launch, pictures, arguments):
    data, masks = pictures
    folder = launch('--sumix', '--sumix-masks', masks, *arguments.split(), data=data)
    assert read_summary(folder)[0]['train_sumix_masks'] > 0.8
    assert 'preview' not in arguments or (folder / 'sumix-0.png').is_file()


@pytest.fixture
def one_picture(tmp_path):
    """Return a function that writes one picture of 8 x 6 with this mask, and reads the mask as the launcher does."""
    for name in ('data', 'masks'):
        (tmp_path / name / 'class0').mkdir(parents=True)

    def read(mask, exif=b''):
        Image.new('RGB', (8, 6)).save(tmp_path / 'data' / 'class0' / 'one.jpg', exif=exif)
        mask.save(tmp_path / 'masks' / 'class0' / 'one.png')
        return _with_masks(tmp_path).read(0)[2]

    return read


def _with_masks(folder):
    return with_masks(ImageDataset(str(folder / 'data')), str(folder / 'masks'), str(folder / 'data'))


@pytest.mark.parametrize('kind', [*KINDS, 'quantized', 'class numbers'])
def test_what_is_not_zero_is_the_object(one_picture, kind):
    is_object = np.zeros((6, 8), dtype=bool)
    is_object[1:4, 2:7] = True
    mask = _mask_image(is_object, 'L' if kind == 'quantized' else kind)
    if kind == 'quantized':  # a palette counts by its colours, whatever their numbers
        mask = mask.convert('RGB').quantize(2)
    if kind == 'class numbers':
        mask.putpixel((3, 2), 4)
    assert np.array_equal(np.asarray(one_picture(mask)), 255 * is_object)
    assert one_picture(Image.new('L', (8, 6))) is None  # without an object: not known
    assert np.asarray(one_picture(Image.new('L', (8, 6), 3))).min() == 255  # all of it the object


@pytest.mark.parametrize('error', [None, SyntaxError, Image.DecompressionBombError])
def test_a_damaged_mask_is_not_known_and_named(one_picture, tmp_path, caplog, monkeypatch, error):
    one_picture(Image.new('L', (8, 6), 255))
    path, dataset = tmp_path / 'masks/class0/one.png', _with_masks(tmp_path)
    path.write_bytes(path.read_bytes()[:50])
    if error:  # Pillow raises many kinds
        monkeypatch.setattr(Image, 'open', Mock(side_effect=error))
    assert dataset.mask(0) is None
    assert f'mask {path} cannot be read, its object is taken for not known' in caplog.text


@pytest.fixture
def pictures_in_tar(pictures, tmp_path):
    """The training pictures in a tar file, and their masks."""
    data, masks = pictures
    with tarfile.open(tmp_path / 'pictures.tar', 'w') as tar:
        for folder in sorted((data / 'train').iterdir()):
            tar.add(folder, folder.name)
    return tmp_path / 'pictures.tar', masks / 'train'


def test_a_folder_that_mirrors_the_training_pictures_alone_will_do_and_workers_may_be_started_anew(
        pictures, pictures_in_tar):
    train, masks = str(pictures[0] / 'train'), pictures_in_tar[1]
    for data, folders in (
            (ImageFolder(train), (masks, masks.parent)), (ImageDataset(train), (masks, masks.parent)),
            (ImageDataset(str(pictures_in_tar[0])), (masks,))):
        for folder in folders:
            masked = with_masks(data, str(folder), str(pictures[0]))
            look_at_some(masked)  # leaves no tar file open
            masked = pickle.loads(pickle.dumps(masked))
            assert len(masked) == 4 * COUNT and (np.asarray(masked.read(1)[2]) > 0).sum() == 22 * 18
            assert masked.mask.path(0) == masks / 'class0' / 'a.picture0.png'


class _Named(Dataset):
    """Pictures of class0 and class1 with names as a reader of rows gives them."""

    def __init__(self, names, root):
        self.names, self.root = names, root

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return Image.open(self.root / f'class{index}' / 'a.picture1.png').convert('RGB'), index

    def filename(self, index):
        return self.names[index]


def test_a_mask_is_its_own_pictures_whatever_the_names(pictures, tmp_path):
    data, masks = (folder / 'train' for folder in pictures)
    names = [f'class{label}/a.picture1.png' for label in range(2)]
    for own in (names, [str(data / name) for name in names], [f'./{name}' for name in names]):
        named = with_masks(_Named(own, data), str(masks), str(data))
        assert [(np.asarray(named.read(i)[2]) > 0).sum() for i in (0, 1)] == [22 * 18] * 2
        assert [named.mask.path(i) for i in (0, 1)] == [masks / name for name in names]
    for own, message in (
            ([str(tmp_path / name) for name in names], f'needs pictures in {data}, got {tmp_path}/class0'),
            (['../a.png', 'b.png'], f'needs pictures in {data}, got ../a.png'),
            (['a.png', 'a.jpg'], 'needs one picture for each mask, got several for .*/a.png'),
            ([None, None], 'needs pictures with names, and those of _Named have none')):
        with pytest.raises(ValueError, match=message):
            with_masks(_Named(own, data), str(masks), str(data))


@pytest.mark.parametrize('spared, black, message', [
    (0, 0, None), (7, 0, '5 of 10 .* rest. 50% of all pictures have no mask file, all of a, b, c and 1 more; a black'),
    (1, 0, 'all of a; a black'), (0, 10, '0 of 10 pictures looked at have one')])
def test_missing_and_black_masks_are_a_warning(tmp_path, caplog, spared, black, message):
    caplog.set_level(logging.INFO)
    for i, name in enumerate('abbcdefghi'):
        for folder in ('data', 'masks'):
            (tmp_path / folder / name).mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 6)).save(tmp_path / 'data' / name / f'{i}.png')
        if i >= min(spared, 5):
            Image.new('L', (8, 6), 255 * (i >= black)).save(tmp_path / 'masks' / name / f'{i}.png')
    look_at_some(_with_masks(tmp_path))
    [record] = caplog.records
    assert 'labels by masks where both pictures have one; the ratio for the rest' in record.getMessage()
    assert record.levelname == ('WARNING' if message else 'INFO')
    assert not message or re.search(message, record.getMessage())


def _of(*values):
    """A mask of these values, grey or RGB, in turn."""
    return Image.fromarray(np.resize(np.array(values, np.uint8), (6, 8, 3)[:np.ndim(values) + 1]))


TURNED = Image.Exif()
TURNED[0x0112] = 6


@pytest.mark.parametrize('mask, message', [
    (Image.new('L', (6, 8), 255), r'mask .*one.png must be .* of its image, \(8, 6\), .*, \(6, 8\)'),
    (Image.new('RGBA', (8, 6)), r"mask .*one.png must be without transparency, .* got 'RGBA'"),
    (TRANSPARENT, r"mask .*one.png must be without transparency, .* got 'P'"),
    (_of(1, 2, 3), r'one.png must be black .*, got no black, but \[1, 2, 3\]'),
    (_of((9, 0, 0), (0, 9, 0)), r'one.png must be black .*, got no black, but \[\[0, 9, 0\], \[9, 0, 0\]\]')])
def test_a_mask_that_does_not_fit_or_whose_picture_exif_turns_is_named(one_picture, mask, message):
    with pytest.raises(ValueError, match=message):
        one_picture(mask)
    with pytest.raises(ValueError, match='one.png and its image .* EXIF orientation 6 in the image'):
        one_picture(Image.new('L', (8, 6), 255), TURNED)


@pytest.mark.parametrize('arguments, message', [
    ('--sumix --sumix-masks no/folder', "--sumix-masks must be a folder, got 'no/folder'"),
    ('--sumix --sumix-masks {tmp}', 'train_patch: --sumix-masks: must hold a mask for each .*0.png .* none is there'),
    ('--sumix --sumix-masks {tmp}/small', 'train_patch: --sumix-masks: mask .* must be .* of the size of its image'),
    ('--sumix --sumix-masks {data}', 'train_patch: --sumix-masks: must be another folder than that of the pictures'),
    ('--sumix --sumix-masks {masks} --sumix-preset released', '--sumix-masks gives each image a share of its own, '),
    ('--sumix --sumix-masks {masks} --aa augmix-m5-w4-d2', 'cannot follow --aa augmix-m5-w4-d2, which blends images'),
    ('--sumix --sumix-masks {masks} --dataset wds/x', 'needs pictures in folders or tar files, got --dataset wds/x'),
    ('--sumix-masks {masks}', '--sumix-masks has no effect without --sumix')])
def test_what_masks_cannot_be_read_from_or_combined_with_ends_the_run(launch, pictures, tmp_path, arguments, message):
    data, masks = pictures
    (tmp_path / 'small/class0').mkdir(parents=True)
    for i in range(COUNT):
        Image.new('L', (4, 4), 255).save(tmp_path / f'small/class0/a.picture{i}.png')
    with pytest.raises(SystemExit, match=message):
        launch(*arguments.format(data=data, masks=masks, tmp=tmp_path).split(), data=data)


def test_a_validation_loader_alone_does_not_count_as_one_with_masks(pictures, monkeypatch):
    patch = train_patch.patch.Patch()
    patch.args = type('Args', (), {'sumix_masks': 'somewhere'})()
    dataset = create_dataset('', str(pictures[0]), split='validation')
    create_loader = patch.stand_ins[timm.data.create_loader]
    create_loader(dataset, (3, 32, 32), 4, device=torch.device('cpu'), num_workers=1)
    assert not patch.has_masks
