"""Real photographs from a folder of one's own, in each layout: labels, boxes, sizes, and what is missing."""
import numpy as np
import pytest
import torch
from helpers import write_cifar100
from PIL import Image

from benchmarks.data import photographs, settings
from benchmarks.data.photographs import SOURCES, find_source, load_photographs
from benchmarks.data.settings import Setting, make_data

TINY_BOX = (8, 16, 23, 47)  # left, top, right, bottom of the pictures' 64 pixels


def _colour(label, number):
    """Return a colour that tells the class (red) and the number (green) of a picture."""
    return 20 + 20 * label, 20 + 20 * number, 0


def _told(images):
    """Return [(class, number)] of images [N, 3, S, S] in [-1, 1], by the colour of their upper left corner."""
    red, green, _ = ((images[:, :, 3, 3] + 1.) * 127.5).T
    return list(zip(*(((colour - 20) / 20).round().int().tolist() for colour in (red, green))))


def _save(path, label, number, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, _colour(label, number)).save(path)


# 4 training and 2 test pictures of each of 10 classes: (label, number)
CIFAR = {part: [(i % 10, i // 10) for i in range(10 * count)] for part, count in (('train', 4), ('test', 2))}


@pytest.fixture
def cifar_files(tmp_path, monkeypatch):
    """A folder of the pickled files that torchvision unpacks."""
    for part, rows in CIFAR.items():
        pixels = np.stack([np.full((32, 32, 3), _colour(*row), np.uint8) for row in rows])
        write_cifar100(monkeypatch, tmp_path, part, pixels, [label for label, _ in rows])
    return tmp_path


@pytest.fixture
def cifar_folders(tmp_path, monkeypatch):
    """The same as pictures/train/CLASS/ and pictures/test/CLASS/."""
    monkeypatch.setattr(photographs, 'CIFAR_CLASSES', 10)
    for part, rows in CIFAR.items():
        for label, number in rows:
            _save(tmp_path / 'pictures' / part / f'class{label}' / f'{number}.png', label, number, (32, 32))
    return tmp_path


@pytest.fixture
def tiny(tmp_path):
    """A folder with tiny-imagenet-200 in it: 3 classes, of 3 training and 2 test pictures each."""
    root, box, validation = tmp_path / 'tiny-imagenet-200', '\t'.join(map(str, TINY_BOX)), ''
    for label, name in enumerate(('n01', 'n02', 'n03')):
        own = ''
        for number in range(5):
            file = f'{name}_{number}.JPEG'
            if number < 3:
                _save(root / 'train' / name / 'images' / file, label, number, (64, 64))
                own += f'{file}\t{box}\n'
            else:
                _save(root / 'val' / 'images' / file, label, number, (64, 64))
                validation += f'{file}\t{name}\t{box}\n'
        (root / 'train' / name / f'{name}_boxes.txt').write_text(own)
    (root / 'wnids.txt').write_text('n02\nn01\nn03\n')
    (root / 'val' / 'val_annotations.txt').write_text(validation)
    return tmp_path


@pytest.fixture
def caltech(tmp_path):
    """A folder with caltech-101/101_ObjectCategories in it: 3 classes of 5 pictures, and the background's."""
    root = tmp_path / 'caltech-101' / '101_ObjectCategories'
    for label, name in enumerate(('Faces', 'ant', 'yin_yang')):
        for number in range(5):
            _save(root / name / f'image_{number:04d}.jpg', label, number, (60, 40))
    _save(root / 'BACKGROUND_Google' / 'image_0000.jpg', 9, 9, (60, 40))
    (root / 'BACKGROUND_Google' / 'tmp').write_text('no picture')
    return tmp_path


def _check(part, classes, each):
    """Check that there are `each` pictures of each class, no one twice, and that their labels are right."""
    told = _told(part.images)
    assert part.labels.dtype == torch.int64 and torch.equal(part.labels.bincount(), torch.full((classes,), each))
    assert [label for label, _ in told] == part.labels.tolist() and len(set(told)) == len(told)
    assert part.masks.shape == (len(told), *part.images.shape[-2:]) and part.masks.dtype == torch.bool


@pytest.mark.parametrize('layout', ['cifar_files', 'cifar_folders'])
def test_the_files_of_torchvision_are_read_and_pictures_by_class(request, layout):
    folder = request.getfixturevalue(layout)
    for part, each in zip(load_photographs('cifar100', folder, 30, test_images=20, size=32, stored=32), (3, 2)):
        _check(part, 10, each)
        assert part.images.shape[1:] == (3, 32, 32) and not part.masks.any()


@pytest.mark.parametrize('stored, size', [(64, 64), (32, 24)])
def test_published_boxes_become_masks_resized_and_cropped_as_their_pictures_are(tiny, stored, size):
    train, test = load_photographs('tiny-imagenet', tiny, images=9, test_images=6, size=size, stored=stored)
    left, top, right, bottom = (side * stored // 64 for side in TINY_BOX)
    expected = torch.zeros(stored, stored, dtype=torch.bool)
    expected[top:bottom + 1, left:right + 1] = True
    middle = slice((stored - size) // 2, (stored + size) // 2)
    for part, numbers, mask in ((train, {0, 1, 2}, expected), (test, {3, 4}, expected[middle, middle])):
        _check(part, 3, len(numbers))
        assert all(torch.equal(own, mask) for own in part.masks)
        assert {number for _, number in _told(part.images)} == numbers


@pytest.mark.parametrize('shape', [(40, 60, 3), (40, 60)], ids=['coloured', 'grey'])
def test_the_shorter_side_is_resized_and_the_middle_cut_out(caltech, shape):
    for path in (caltech / 'caltech-101' / '101_ObjectCategories' / 'Faces').iterdir():
        Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8)).save(path, quality=100)
    whole = Image.open(path).convert('RGB').resize((30, 20), Image.Resampling.BICUBIC)
    for part, side in zip(load_photographs('caltech101', caltech, 3, 3, size=10, stored=20), (20, 10)):
        left, top = (30 - side) // 2, (20 - side) // 2
        wanted = torch.tensor(np.asarray(whole.crop((left, top, left + side, top + side)))).permute(2, 0, 1)
        found = (part.images[part.labels == 0][0] + 1.) * 127.5
        torch.testing.assert_close(found, wanted.float(), atol=1e-3, rtol=0.)


def test_a_set_without_a_split_is_tested_on_what_is_left_and_the_background_is_no_class(caltech):
    train, test = load_photographs('caltech101', caltech, images=9, test_images=9, size=32, stored=40)
    _check(train, 3, 3)
    _check(test, 3, 2)  # no more are left
    assert not set(_told(train.images)) & set(_told(test.images))
    with pytest.raises(ValueError, match='caltech101 must have 6 pictures of each class, got 5'):
        load_photographs('caltech101', caltech, images=18, test_images=3, size=32, stored=40)


def test_pictures_are_the_same_each_time_and_for_all_seeds_and_fewer_are_some_of_more(cifar_folders, monkeypatch):
    def load(images):
        return load_photographs('cifar100', cifar_folders, images, test_images=10, size=32, stored=32)

    setting = Setting(data='cifar100', size=None, images=20, test_images=10)
    first, again, fewer, made = load(20), load(20), load(10), make_data(setting, 0, cifar_folders)
    for others in (again, made):
        assert all(torch.equal(a, b) for part, other in zip(first, others) for a, b in zip(part, other))
    assert set(_told(fewer[0].images)) < set(_told(first[0].images))
    assert torch.equal(fewer[1].images, first[1].images)
    monkeypatch.setattr(settings, 'load_photographs', None)  # is not called for another seed
    assert make_data(setting, 1, cifar_folders).train.images is made.train.images


def test_a_set_is_found_below_the_folder_or_told_in_one_line_with_where_it_comes_from(tiny, caltech, cifar_folders):
    found = {name: find_source(name, tiny).name for name in SOURCES}
    assert found == {'cifar100': 'pictures', 'tiny-imagenet': 'tiny-imagenet-200', 'caltech101': '101_ObjectCategories'}
    for name in SOURCES:
        for folder in (None, tiny / 'nowhere'):
            with pytest.raises(FileNotFoundError, match=rf'\A--data-dir must hold {name}, got {folder}: http.*\Z'):
                load_photographs(name, folder, images=10, test_images=10, size=32, stored=32)
