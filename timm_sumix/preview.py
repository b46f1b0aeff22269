"""A picture of mixed images with their labels: by area, and corrected."""
from pathlib import Path
from typing import List, Optional, Sequence, Union

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torchvision.transforms.functional import to_pil_image

from .target import MixedTarget

TILE, LINE, COLUMNS = 224, 17, 5  # pixels of an image's side and of a line of text; images in a row


@torch.no_grad()
def draw_preview(
        mixed: torch.Tensor, target: MixedTarget, lam: torch.Tensor, count: int, path: Union[str, Path],
        mean: Sequence[float] = (0.,), std: Sequence[float] = (1.,), class_names: Optional[Sequence[str]] = None,
) -> None:
    """Save some images of a mixed batch, each with both class names, the share by area and the corrected one.

    They are evenly spaced in the order of how far the two shares differ; pairs of one class stand last, at 100 %.

    Args:
        mixed: Mixed images [N, C, H, W], normalised.
        target: Their MixedTarget.
        lam: Corrected shares of the first images [N].
        count: Number of images; fewer if the batch has fewer.
        path: Picture file.
        mean: Mean that images were normalised by, of each channel or of all, for pixels in [0, 1].
        std: Standard deviation likewise.
        class_names: Name of each class; None: its number.
    """
    difference = (lam - target.area).abs() * ~target.same_labels
    order = difference.argsort(descending=True)
    places = torch.linspace(0, len(order) - 1, min(count, len(order)), dtype=torch.float32)
    chosen = order[places.round().long().to(order.device)]
    shift, scale = (torch.as_tensor(values, dtype=torch.float32).view(1, -1, 1, 1) for values in (mean, std))
    pixels = (mixed[chosen].float().cpu() * scale + shift).clamp(0., 1.)
    if pixels.shape[1] not in (1, 3):  # of RGB with depth, say, the first three; of two channels the first
        pixels = pixels[:, :3 if pixels.shape[1] > 3 else 1]
    both = torch.stack([target.area, lam.float()], dim=1).masked_fill(target.same_labels.unsqueeze(1), 1.)
    labels = zip(target.labels[chosen].tolist(), target.partner_labels[chosen].tolist())
    rows = -(-len(chosen) // COLUMNS)
    sheet = Image.new('RGB', (min(len(chosen), COLUMNS) * (TILE + 8), rows * (TILE + 4 * LINE)), 'white')
    for i, (image, pair, shares) in enumerate(zip(pixels, labels, both[chosen].tolist())):
        left, top = i % COLUMNS * (TILE + 8), i // COLUMNS * (TILE + 4 * LINE)
        picture = to_pil_image(image).convert('RGB')
        resample = Image.Resampling.NEAREST if max(picture.size) < TILE else Image.Resampling.BILINEAR
        sheet.paste(ImageOps.contain(picture, (TILE, TILE), resample), (left, top))
        _write(sheet, left, top + TILE, [_name(label, class_names) for label in pair], *shares)
    sheet.save(path)


def _name(label: Union[int, List[float]], class_names: Optional[Sequence[str]]) -> str:
    """Return the name of a class, cut to 15 letters; of several (a row of labels), joined; of none, a dash."""
    several = [label] if isinstance(label, int) else [number for number, value in enumerate(label) if value]
    name = ', '.join(class_names[number] if class_names else f'class {number}' for number in several) or '-'
    return name if len(name) <= 15 else f'{name[:14]}.'


def _write(sheet: Image.Image, left: int, top: int, names: Sequence[str], area: float, corrected: float) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    lines = (
        (f'{names[0]} + {names[1]}', 'black'), (f'by area     {100 * area:3.0f} % {names[0]}', '#b3541e'),
        (f'corrected {100 * corrected:3.0f} % {names[0]}', '#1f5fa8'))
    for line, (text, colour) in enumerate(lines):
        draw.text((left + 2, top + 1 + line * LINE), text, fill=colour, font=font)
