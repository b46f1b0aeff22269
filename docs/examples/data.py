"""What the three loops share: the command line, and loaders of unmixed images with integer labels."""
import argparse
from pathlib import Path

import timm
import torch
from timm.data import create_transform
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument('--data-dir', type=Path, required=True, help='folder with train/CLASS/* and validation/CLASS/*')
    parser.add_argument('--model', default='resnet18')
    parser.add_argument('--size', type=int, default=224, help='height and width of the images in pixels')
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--epochs', type=int, default=10)
    parser.add_argument('--out', type=Path, default='checkpoint.pth.tar')
    return parser.parse_args()


def create_loaders(args: argparse.Namespace) -> tuple[DataLoader, DataLoader]:
    loaders = []
    for split in ('train', 'validation'):
        training = split == 'train'
        data = ImageFolder(args.data_dir / split, create_transform((3, args.size, args.size), is_training=training))
        loaders.append(DataLoader(data, args.batch_size, shuffle=training, num_workers=1, drop_last=training))
    return tuple(loaders)


def create_model(args: argparse.Namespace, loader: DataLoader) -> torch.nn.Module:
    return timm.create_model(args.model, num_classes=len(loader.dataset.classes))
