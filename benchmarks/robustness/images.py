"""Test images in [0, 1], and models that take them."""
import argparse
from typing import NamedTuple, Tuple

import torch
from rich.progress import track
from timm.data import create_dataset, create_transform, resolve_data_config

from ..data.settings import SETTINGS, make_data

Normal = Tuple[Tuple[float, ...], Tuple[float, ...]]


class Images(NamedTuple):
    """Images [N, 3, H, W] in [0, 1], labels [N], and what models normalise by, (mean, std) of each channel."""
    pixels: torch.Tensor
    labels: torch.Tensor
    normal: Normal


class Normalised(torch.nn.Module):
    """A model of images in [0, 1].

    Args:
        model: A model of normalised images.
        normal: What it normalises by, (mean, std) of each channel.
    """

    def __init__(self, model: torch.nn.Module, normal: Normal):
        super().__init__()
        self.model = model
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in normal)
        self.register_buffer('mean', mean)
        self.register_buffer('std', std)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits [N, C]."""
        return self.model((pixels - self.mean) / self.std)


def load_images(args: argparse.Namespace, model: torch.nn.Module) -> Images:
    """Return the test images of a comparison's setting, or a sample of an image folder by timm's own transform."""
    if args.setting:
        data = make_data(SETTINGS[args.setting], args.seed)[1]
        half = (0.5,) * 3
        return Images((data.images[:args.images] + 1) / 2, data.labels[:args.images], (half, half))
    config = resolve_data_config({}, model=model)
    dataset = create_dataset('', root=args.data_dir, split='validation', is_training=False)
    dataset.transform = create_transform(
        config['input_size'], interpolation=config['interpolation'], crop_pct=config['crop_pct'], normalize=False)
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(args.seed))[:args.images].tolist()
    pixels, labels = zip(*(dataset[i] for i in track(chosen, 'Reading images')))
    return Images(torch.stack(pixels).float() / 255, torch.tensor(labels), (config['mean'], config['std']))
