"""One picture of all mixing policies on real photographs: the pair, the mask, the mixed image, and lam.

    python -m benchmarks.gallery [--out docs/gallery.jpg]
"""
import argparse
from typing import List, Tuple

import skimage.data
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images

from timm_sumix import SUMixMixup
from timm_sumix.mixing.policies import POLICIES

from .common.figures import plt

PAIRS = (('cat', 'coffee'), ('flower', 'astronaut'), ('temple', 'rocket'))
ALPHA = 3.  # for shares near a half: the papers' alphas mostly draw next to nothing or all


def load_photographs(size: int) -> dict:
    """Return photographs of scikit-image and scikit-learn by name: the middle [3, size, size], float32, in [0, 1]."""
    temple, flower = load_sample_images().images
    arrays = {
        'cat': skimage.data.chelsea(), 'coffee': skimage.data.coffee(), 'astronaut': skimage.data.astronaut(),
        'rocket': skimage.data.rocket(), 'temple': temple, 'flower': flower}
    return {name: _crop(torch.from_numpy(array.copy()), size) for name, array in arrays.items()}


def _crop(image: torch.Tensor, size: int) -> torch.Tensor:
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = image[top:top + side, left:left + side].permute(2, 0, 1)[None].float() / 255
    return F.interpolate(square, size=(size, size), mode='bilinear', antialias=True)[0].clamp(0., 1.)


def mix(policy: str, first: torch.Tensor, second: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, float]:
    """Return the mixed image [3, H, W], the mask [H, W] and lam of `first` mixed with `second` by a policy."""
    has_alpha = 'alpha' in POLICIES[policy].__dataclass_fields__ and policy != 'resizemix'
    options = {'alpha': ALPHA} if has_alpha else {}
    mixup = SUMixMixup(policy=policy, policy_kwargs=options, mode='elem', num_classes=2)
    x, labels = torch.stack([first, second]), torch.tensor([0, 1])
    draws = mixup.draw(x)
    mixed, target = mixup.mix(x, labels, draws)
    mask, _ = draws.parts[0][0].mask(draws.parts[0][1], x)
    return mixed[0], mask[0, 0].float().expand(first.shape[1:]), target.lam[0].item()


def draw_gallery(photographs: dict, path: str) -> None:
    """Save the picture: per pair of photographs a row of mixed images and a row of their masks, a column per policy."""
    columns: List[str] = list(POLICIES)
    figure, axes = plt.subplots(2 * len(PAIRS), 1 + len(columns), figsize=(15.2, 12.6))
    for axis in axes.flat:
        axis.axis('off')
    for pair, (a, b) in enumerate(PAIRS):
        rows = axes[2 * pair:2 * pair + 2]
        for axis, name, role in zip(rows[:, 0], (a, b), ('x', "x'")):
            axis.imshow(photographs[name].permute(1, 2, 0))
            axis.set_title(f'{role}: {name}', fontsize=11, pad=3)
        for column, policy in enumerate(columns, start=1):
            mixed, mask, lam = mix(policy, photographs[a], photographs[b])
            rows[0, column].imshow(mixed.permute(1, 2, 0))
            rows[0, column].set_title(policy, fontsize=11, pad=3)
            rows[1, column].imshow(mask, cmap='gray', vmin=0, vmax=1)
            rows[1, column].set_title(f'{100 * lam:.0f} % {a}', fontsize=11, pad=3)
            rows[1, column].add_patch(plt.Rectangle(
                (0, 0), 1, 1, transform=rows[1, column].transAxes, fill=False, edgecolor='0.6', linewidth=1))
    figure.subplots_adjust(left=0.005, right=0.995, top=0.975, bottom=0.005, wspace=0.04, hspace=0.12)
    figure.savefig(path, dpi=75, pil_kwargs={'quality': 88})


def main() -> None:
    """Parse arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', default='docs/gallery.jpg', help='picture file (default: docs/gallery.jpg)')
    args = parser.parse_args()
    torch.manual_seed(0)
    draw_gallery(load_photographs(224), args.out)
    print(f'Picture: {args.out}')


if __name__ == '__main__':
    main()
