"""What the loops share: the command line, and unmixed images with integer labels."""
import argparse
from pathlib import Path

import timm
import torch
from timm.data import create_transform
from torch.utils.data import DataLoader, DistributedSampler
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


def create_data(args: argparse.Namespace) -> tuple[ImageFolder, ImageFolder]:
    return tuple(
        ImageFolder(args.data_dir / split, create_transform((3, args.size, args.size), is_training=split == 'train'))
        for split in ('train', 'validation'))


def create_loaders(args: argparse.Namespace, distributed: bool = False) -> tuple[DataLoader, DataLoader]:
    train_data, validation_data = create_data(args)
    sampler = DistributedSampler(train_data) if distributed else None
    return (
        DataLoader(
            train_data, args.batch_size, shuffle=sampler is None, sampler=sampler, num_workers=1, drop_last=True),
        DataLoader(validation_data, args.batch_size, num_workers=1))


def create_model(args: argparse.Namespace, loader: DataLoader) -> torch.nn.Module:
    return timm.create_model(args.model, num_classes=len(loader.dataset.classes))
