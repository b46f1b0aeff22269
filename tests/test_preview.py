"""The picture of mixed images with their labels."""
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from timm_sumix import SUMixMixup, preview
from timm_sumix.preview import COLUMNS, LINE, TILE, draw_preview
from train_patch.preview import class_names


def _batch(channels=3, size=(32, 32)):
    torch.manual_seed(0)
    x = torch.rand(6, channels, *size)
    return SUMixMixup(0., 1., mode='elem', num_classes=6)(x, torch.arange(6))


def _drawn(path, lam, target, count):
    """Return the grey levels of the images of a preview, in which image i has i, and its size."""
    grey = torch.arange(6.).view(-1, 1, 1, 1).expand(6, 3, 32, 32) / 5
    draw_preview((grey - 0.5) / 0.25, target, lam, count, path, (0.5,), (0.25,))
    picture = Image.open(path).convert('RGB')
    corners = [(i % COLUMNS * (TILE + 8), i // COLUMNS * (TILE + 4 * LINE)) for i in range(count)]
    return [round(picture.getpixel(corner)[0] / 51) for corner in corners], picture.size


def test_images_stand_in_the_order_of_how_far_the_shares_differ(tmp_path):
    _, target = _batch()
    lam = target.lam - torch.tensor([0., 0.3, 0.1, 0.2, 0.05, 0.4])
    size = (COLUMNS * (TILE + 8), 2 * (TILE + 4 * LINE))
    assert _drawn(tmp_path / 'all.png', lam, target, 6) == ([5, 1, 3, 2, 4, 0], size)
    assert _drawn(tmp_path / 'three.png', lam, target, 3)[0] == [5, 3, 0]  # evenly spaced: first, third and last


def test_pairs_of_one_class_stand_last_and_are_all_of_it(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(preview, '_write', lambda sheet, left, top, names, *shares: written.append((names, shares)))
    _, target = _batch()
    target.labels = torch.tensor([0, 1, 2, 3, 4, 0])  # the first and the last are partners
    order, _ = _drawn(tmp_path / 'all.png', target.lam - torch.tensor([0.9, 0.3, 0.1, 0.2, 0.05, 0.8]), target, 6)
    assert order[:4] == [1, 3, 2, 4] and sorted(order[4:]) == [0, 5]
    assert [shares == (1., 1.) for _, shares in written] == [False] * 4 + [True] * 2


def test_any_number_of_channels_size_and_dtype_is_drawn(tmp_path):
    for channels, size, dtype in ((1, (8, 8), torch.float32), (4, (300, 40), torch.bfloat16), (2, (5, 7), torch.half)):
        mixed, target = _batch(channels, size)
        draw_preview(mixed.to(dtype), target, target.lam, 20, tmp_path / 'preview.png', class_names=list('abcdef'))
        assert Image.open(tmp_path / 'preview.png').size[0] == COLUMNS * (TILE + 8)


@pytest.mark.parametrize('class_to_idx, names', [
    ({'n01443537': 1, 'n01440764': 0}, ['tench', 'goldfish']), ({'b': 1, 'a': 0}, ['a', 'b']), (None, None),
    ({'tench': 0, 'Tinca tinca': 0, 'goldfish': 1, 'Carassius auratus': 1, 'hammerhead': 3},
     ['tench', 'goldfish', 'class 2', 'hammerhead'])])
def test_folders_of_imagenet_are_named_in_words_and_other_classes_by_their_first_name(class_to_idx, names):
    data = TensorDataset(torch.zeros(1))
    data.class_to_idx = class_to_idx
    assert class_names(DataLoader(data)) == names
