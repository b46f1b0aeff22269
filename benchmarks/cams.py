"""Where do two models see each class of the same mixed images? Class activation maps by pytorch-grad-cam.

python -m benchmarks.cams CUTMIX_CHECKPOINT SUMIX_CHECKPOINT [--setting placed-14] [--out docs/cams.jpg]

Needs the package grad-cam: pip install -e .[robustness]. Grad-CAM: https://arxiv.org/abs/1610.02391
"""
import argparse
from pathlib import Path
from typing import List

import numpy as np
import torch

from timm_sumix import SUMixOptions, correct
from timm_sumix.correction import RATIOS

from .common.figures import hide_ticks, plt, save
from .data.images import ImageSet
from .data.objects import FASHION_CLASSES
from .data.settings import SETTINGS, make_data
from .labels.truth import evenly_spaced, true_shares
from .training import create_model, cutmix


def load(checkpoint: Path) -> torch.nn.Module:
    """Return a model of the comparison from its checkpoint."""
    return create_model(checkpoint_path=str(checkpoint)).eval()


def maps(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return Grad-CAM of each image for its label, scaled to [0, 1] in each [N, H, W]."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    layer = model.get_submodule(model.feature_info[-1]['module'])
    with GradCAM(model=model, target_layers=[layer]) as cam:
        return cam(input_tensor=images, targets=[ClassifierOutputTarget(int(label)) for label in labels])


def draw(images: np.ndarray, titles: List[str], columns: List[List[np.ndarray]], names: List[str], path: Path) -> None:
    """Save rows of an image and its maps."""
    from pytorch_grad_cam.utils.image import show_cam_on_image
    figure, axes = plt.subplots(len(images), 1 + len(columns), figsize=(2.3 * (1 + len(columns)), 2.45 * len(images)))
    for i, image in enumerate(images):
        pictures = [image] + [show_cam_on_image(image, column[i], use_rgb=True) for column in columns]
        for j, (axis, picture) in enumerate(zip(axes[i], pictures)):
            axis.imshow(picture, interpolation='nearest')
            hide_ticks(axis)
            axis.set_title(titles[i] if j == 0 else names[j - 1][i], fontsize=8)
    save(figure, path, dpi=80)


def main() -> None:
    """Draw the maps of both models for both classes of six mixed test images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', nargs=2, type=Path, metavar='CHECKPOINT', help="CutMix's, then SUMix's")
    parser.add_argument('--setting', choices=list(SETTINGS), default='placed-14')
    parser.add_argument('--ratio', choices=list(RATIOS), default=SUMixOptions.ratio, help="SUMix's ratio in the titles")
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('docs') / 'cams.jpg')
    args = parser.parse_args()
    models = [load(path) for path in args.checkpoints]
    test = make_data(SETTINGS[args.setting], args.seed)[1]
    test = ImageSet(*(part[:256] for part in test))
    torch.manual_seed(args.seed)
    mixed, target = cutmix()(test.images, test.labels)
    true = true_shares(test.masks, target)
    corrected = correct(models[1], mixed, target, SUMixOptions(args.ratio))
    rows = evenly_spaced(target, true, 6)
    classes = [target.labels[rows], target.partner_labels[rows]]
    columns = [maps(model, mixed[rows], labels) for model in models for labels in classes]
    names = [
        [f'{name}: {FASHION_CLASSES[label]}' for label in labels] for name in ('CutMix', 'SUMix') for labels in classes]
    titles = [
        f'area {100 * target.lam[i]:.0f} %, SUMix {100 * corrected[i]:.0f} %,\ntrue {100 * true[i]:.0f} % '
        f'{FASHION_CLASSES[target.labels[i]]}' for i in rows]
    images = (mixed[rows].permute(0, 2, 3, 1).numpy() / 2 + 0.5).astype(np.float32)
    draw(images, titles, columns, names, args.out)


if __name__ == '__main__':
    main()
