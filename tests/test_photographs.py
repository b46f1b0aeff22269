"""Real photographs from a folder of one's own, in each layout: labels, boxes, sizes, and what is missing."""
import numpy as np
import pytest
import torch
from helpers import write_cifar100
from PIL import Image

from benchmarks.data import photographs, settings
from benchmarks.data.photographs import SOURCES, find_source, load_photographs
from benchmarks.data.settings import SETTINGS, Setting, make_data

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


COUNTS = {'train': 4, 'test': 2}  # pictures of each class


@pytest.fixture
def cifar_files(tmp_path, monkeypatch):
    """A folder of the pickled files that torchvision unpacks, of 10 classes."""
    for part, count in COUNTS.items():
        labels = [*range(10)] * count
        pixels = [np.full((32, 32, 3), _colour(label, i // 10), np.uint8) for i, label in enumerate(labels)]
        write_cifar100(monkeypatch, tmp_path, part, np.stack(pixels), labels)
    return tmp_path


@pytest.fixture
def cifar_folders(tmp_path, monkeypatch):
    """The same as pictures/train/CLASS/ and pictures/test/CLASS/."""
    monkeypatch.setattr(photographs, 'CIFAR_CLASSES', 10)
    for part, count in COUNTS.items():
        for label in range(10):
            for number in range(count):
                _save(tmp_path / 'pictures' / part / f'class{label}' / f'{number}.png', label, number, (32, 32))
    return tmp_path


@pytest.fixture
def tiny(tmp_path):
    """A folder with tiny-imagenet-200 in it: 3 classes, of 3 training and 2 test pictures each."""
    root, names = tmp_path / 'tiny-imagenet-200', ['n02', 'n01', 'n03']
    root.mkdir()
    (root / 'wnids.txt').write_text('\n'.join(names) + '\n')
    box, rows = '\t'.join(map(str, TINY_BOX)), []
    for name in names:
        label, lines = sorted(names).index(name), []
        for number in range(3):
            file = f'{name}_{number}.JPEG'
            _save(root / 'train' / name / 'images' / file, label, number, (64, 64))
            lines.append(f'{file}\t{box}\n')
        (root / 'train' / name / f'{name}_boxes.txt').write_text(''.join(lines))
        for number in (3, 4):
            file = f'val_{len(rows)}.JPEG'
            _save(root / 'val' / 'images' / file, label, number, (64, 64))
            rows.append(f'{file}\t{name}\t{box}\n')
    (root / 'val' / 'val_annotations.txt').write_text(''.join(rows))
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
    assert part.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('layout', ['cifar_files', 'cifar_folders'])
def test_the_files_of_torchvision_are_read_and_pictures_by_class(request, monkeypatch, layout):
    folder = request.getfixturevalue(layout)
    for part, each in zip(load_photographs('cifar100', folder, 30, test_images=20, size=32, stored=32), (3, 2)):
        _check(part, 10, each)
        assert part.images.shape[1:] == (3, 32, 32) and not part.masks.any()
    monkeypatch.setattr(photographs, 'CIFAR_CLASSES', 100)
    if layout == 'cifar_folders':
        with pytest.raises(FileNotFoundError, match='must hold cifar100'):  # ten classes are not it
            find_source('cifar100', folder)


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


def test_the_shorter_side_is_resized_and_the_middle_cut_out(caltech):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :10], pixels[:, 50:], pixels[:10, 10:50], pixels[30:, 10:50] = 255, 255, (255, 0, 0), (0, 0, 255)
    for path in (caltech / 'caltech-101' / '101_ObjectCategories' / 'ant').iterdir():
        Image.fromarray(pixels).save(path, quality=100, subsampling=0)

    def load(size, stored):
        parts = load_photographs('caltech101', caltech, 3, 3, size, stored)
        return [(part.images[part.labels == 1][0] + 1) / 2 for part in parts]

    train, test = load(20, 40)
    assert train.shape == (3, 40, 40) and train[1].max() < 0.1  # the white sides are cut off
    assert train[0, :9].min() > 0.9 and train[2, 31:].min() > 0.9 and train[:, 11:29].max() < 0.1
    assert test.shape == (3, 20, 20) and test.max() < 0.1  # its middle is black
    train, test = load(20, 20)
    assert train.shape == test.shape == (3, 20, 20) and train[0, :4].min() > 0.7 and train[2, 16:].min() > 0.7
    assert torch.equal(train, load(10, 20)[0])


def test_a_set_without_a_split_is_tested_on_what_is_left_and_the_background_is_no_class(caltech):
    train, test = load_photographs('caltech101', caltech, images=9, test_images=9, size=32, stored=40)
    _check(train, 3, 3)
    _check(test, 3, 2)  # no more are left
    assert not set(_told(train.images)) & set(_told(test.images))
    with pytest.raises(ValueError, match='caltech101 must have 6 pictures of each class, got 5'):
        load_photographs('caltech101', caltech, images=18, test_images=3, size=32, stored=40)


def test_grey_pictures_have_three_channels(caltech):
    for path in (caltech / 'caltech-101' / '101_ObjectCategories' / 'ant').iterdir():
        Image.new('L', (50, 50), 200).save(path)
    train, _ = load_photographs('caltech101', caltech, images=3, test_images=3, size=32, stored=40)
    assert train.images[train.labels == 1].std() < 0.01 and train.images.shape == (3, 3, 40, 40)


def test_pictures_are_the_same_each_time_and_fewer_are_some_of_more(cifar_folders):
    def load(images):
        return load_photographs('cifar100', cifar_folders, images, test_images=10, size=32, stored=32)

    first, again, fewer = load(20), load(20), load(10)
    for part, other in zip(first, again):
        assert all(torch.equal(a, b) for a, b in zip(part, other))
    assert set(_told(fewer[0].images)) < set(_told(first[0].images))
    assert torch.equal(fewer[1].images, first[1].images)


def test_all_seeds_of_a_setting_have_the_same_pictures(cifar_folders, monkeypatch):
    setting = Setting(data='cifar100', size=None, images=20, test_images=10)
    assert setting.is_real and not Setting().is_real
    first = make_data(setting, 0, cifar_folders)
    _check(first.train, 10, 2)
    _check(first.test, 10, 1)
    read = []
    monkeypatch.setattr(settings, 'load_photographs', lambda *arguments: read.append(arguments))
    second = make_data(setting, 1, cifar_folders)
    assert not read and torch.equal(first.train.images, second.train.images)


def test_a_set_is_found_at_most_two_levels_below_the_folder_and_not_taken_for_another(tiny, caltech, cifar_folders):
    own = caltech / 'caltech-101' / '101_ObjectCategories'
    for folder in (own, own.parent, caltech):
        assert find_source('caltech101', folder) == find_source('caltech101', str(folder)) == own
    found = {name: find_source(name, tiny).name for name in SOURCES}
    assert found == {'cifar100': 'pictures', 'tiny-imagenet': 'tiny-imagenet-200', 'caltech101': '101_ObjectCategories'}


@pytest.mark.parametrize('name', list(SOURCES))
@pytest.mark.parametrize('folder', [None, '', 'nowhere', '101_ObjectCategories'])
def test_what_is_missing_is_told_in_one_line_with_where_it_comes_from(name, folder, tmp_path):
    data_dir = None if folder is None else tmp_path / folder
    with pytest.raises(FileNotFoundError) as raised:
        load_photographs(name, data_dir, images=10, test_images=10, size=32, stored=32)
    message = str(raised.value)
    assert message.startswith(f'--data-dir must hold {name}, got {data_dir}: http') and '\n' not in message


def test_settings_of_photographs_take_as_many_of_each_class_and_crops_that_fit():
    real = [setting for setting in SETTINGS.values() if setting.is_real]
    assert {setting.data for setting in real} == {'cifar100', 'caltech101'}
    for setting in real:
        assert setting.stored >= setting.canvas and setting.images % setting.classes == 0
