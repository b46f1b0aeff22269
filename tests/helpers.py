"""What several tests start from: models, random outputs, slow references, small pictures, a run and its summary."""
import csv
import pickle

import numpy as np
import timm
import torch
import torchvision
from PIL import Image

from timm_sumix import MixedTarget, ModelOutput, SUMixMixup, SUMixTask
from timm_sumix.correction import RATIOS

# every formula, by its name
FORMULAS = {name: kind() for name, kind in RATIOS.items()}


def small_model(name='test_resnet', **kwargs):
    """Return a model of ten classes; the last map of a test_resnet has several places for images of 32 x 32 pixels."""
    own = {'output_stride': 8} if name == 'test_resnet' else {}
    return timm.create_model(name, **{'num_classes': 10, **own, **kwargs})


def random_images(count=6, side=32):
    return torch.randn(count, 3, side, side), torch.arange(count) % 10


def make_task(model, mode='pair', mixup=None, verbose=False, **options):
    """Return a task of ten classes that mixes by CutMix, or with other arguments for SUMixMixup in `mixup`."""
    mixing = {'mixup_alpha': 0., 'cutmix_alpha': 1., 'mode': mode, 'num_classes': 10, **(mixup or {})}
    return SUMixTask(model, SUMixMixup(**mixing), verbose=verbose, **options)


def random_batch(size, num_classes, scale=3., dtype=torch.float32, head=True, seed=0):
    """Return (mixed, original, target), as CutMix on images of 8 x 8 pixels with features on a grid of 4 x 4.

    lam holds exact 0 and 1, and the first image's partner has its label.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, by=scale):
        values = by * torch.randn(*shape, generator=generator)
        return values.clamp(-1e4, 1e4).to(dtype).requires_grad_()

    mixed, original = (
        ModelOutput(
            draw(size, num_classes), draw(size, num_classes) if head else None, draw(size, 6, by=1.),
            torch.rand(size, 4, 4, generator=generator))
        for _ in range(2))
    labels = torch.randint(0, num_classes, (size,), generator=generator)
    index = torch.randperm(size, generator=generator)
    labels[index[0]] = labels[0]
    mask = torch.rand(size, 1, 8, 8, generator=generator) < torch.rand(size, 1, 1, 1, generator=generator)
    mask[-1:], mask[size // 2:size // 2 + 1] = True, False
    lam = mask.float().mean((1, 2, 3))
    return mixed, original, MixedTarget(labels, lam, num_classes, index=index, mask=mask)


def write_image_folder(root, train, side):
    """Write an ImageFolder of four classes, `train` training and 8 validation images each, side x side; return root."""
    generator = np.random.default_rng(0)
    for split, count in (('train', train), ('validation', 8)):
        for label in range(4):
            folder = root / split / f'class{label}'
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 100, (side, side, 3))
                pixels[..., label % 3] += 40 * label
                Image.fromarray(pixels.astype('uint8')).save(folder / f'{i}.png')
    return root


def reference_changes(mixed, original, target, i, keep_own=True):
    """Return mixed image i's prediction less its first image's without the partner's class, and the other way round.

    With keep_own a class that both have stays.
    """
    j = target.index[i]
    labels = target.labels[i], target.labels[j]
    q, changes = mixed.logits[i].softmax(0), []
    for own, other in ((i, labels[1]), (j, labels[0])):
        p = original.logits[own].softmax(0).clone()
        if labels[0] != labels[1] or not keep_own:
            p[other] = 0.
        changes.append(q - p)
    return changes


def reference_dense(labels, partners, lam, num_classes, smoothing=0.):
    """Return soft targets [N, C] of classes [N], or of rows of labels [N, C], which are smoothed towards 0.5."""
    if labels.ndim == 1:
        labels, partners = torch.eye(num_classes)[labels], torch.eye(num_classes)[partners]
        off_value = smoothing / num_classes
    else:
        off_value = smoothing / 2
    first, second = labels * (1 - smoothing) + off_value, partners * (1 - smoothing) + off_value
    return torch.stack([share * a + (1 - share) * b for share, a, b in zip(lam, first, second)])


def digit_canvases(count=128):
    """Return handwritten digits on canvases of 32 x 32 pixels, with their masks and labels."""
    from benchmarks.data.objects import load_digits_objects
    from benchmarks.data.placed import place, to_image_set
    return to_image_set(place(load_digits_objects()[2], count))


def write_cifar100(monkeypatch, folder, part, pixels, labels):
    """Write pixels [N, 32, 32, 3] as the file of CIFAR-100's 'train' or 'test' part that torchvision unpacks."""
    monkeypatch.setattr(torchvision.datasets.cifar, 'check_integrity', lambda *_: True)
    own = folder / 'cifar-100-python'
    own.mkdir(exist_ok=True)
    content = {'data': pixels.transpose(0, 3, 1, 2).reshape(len(labels), -1), 'fine_labels': list(labels)}
    (own / part).write_bytes(pickle.dumps(content))
    (own / 'meta').write_bytes(pickle.dumps({'fine_label_names': [str(label) for label in range(100)]}))


def run_arguments(data, out, name='run', model='test_resnet'):
    """Return the train script's arguments of a run of one epoch on four classes, which later arguments may change."""
    arguments = [
        '--data-dir', data, '--model', model, '--num-classes', 4, '--batch-size', 16, '--epochs', 1,
        '--warmup-epochs', 0, '--lr', 0.01, '--device', 'cpu', '--workers', 1, '--output', out, '--experiment', name,
        '--log-interval', 1, '--input-size', 3, 32, 32]
    if model == 'test_resnet':
        arguments += ['--model-kwargs', 'output_stride=8']  # several places in its last map
    return [str(argument) for argument in arguments]


def read_summary(folder):
    """Return the rows of a run's summary.csv, {column: number}; a resumed run may have written the header again."""
    with open(folder / 'summary.csv') as file:
        return [
            {key: float(value) for key, value in row.items()} for row in csv.DictReader(file) if row['epoch'] != 'epoch'
        ]
