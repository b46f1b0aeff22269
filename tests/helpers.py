"""Random outputs and labels that several tests start from."""
import torch

from timm_sumix import HeadOutput, MixedTarget
from timm_sumix.correction.ratios import RATIOS, WITH_ORIGINAL

# every formula, by a name for the test's id
FORMULAS = {**{name: kind() for name, kind in RATIOS.items()}, **{
    f'{name} of both': kind() for name, kind in WITH_ORIGINAL.items()}}


def random_batch(size, num_classes, scale=3., dtype=torch.float32, head=True, seed=0):
    """Return (mixed, original, target), as CutMix on images of 8 x 8 pixels with features on a grid of 4 x 4.

    lam holds exact 0 and 1, and the first image's partner has its label.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, by=scale):
        values = by * torch.randn(*shape, generator=generator)
        return values.clamp(-1e4, 1e4).to(dtype).requires_grad_()

    mixed, original = (
        HeadOutput(
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
