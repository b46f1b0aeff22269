"""Photographed objects with masks, as --sumix-masks reads them: python docs/examples/stamps_with_masks.py OUT

They are the stamps of Tux Paint (GPL-2, https://tuxpaint.org/stamps): apt-get install tuxpaint-stamps-default. Each is
a picture whose transparency tells its object. It is written to OUT/data/train/CLASS/NAME.png, or validation, on a grey
ground, and where its object is to OUT/masks/train/CLASS/NAME.png. Training with both:

    python -m train_patch train.py --data-dir OUT/data --model resnet18 --num-classes 6 --sumix --sumix-masks OUT/masks
"""
import random
import sys
from pathlib import Path

from PIL import Image

STAMPS = Path('/usr/share/tuxpaint/stamps')
CLASSES = ('animals', 'food', 'household', 'plants', 'town', 'vehicles')

out = Path(sys.argv[1])
random.seed(0)
for name in CLASSES:
    for number, path in enumerate(sorted((STAMPS / name).rglob('*.png'))):
        stamp = Image.open(path).convert('RGBA')
        stamp.thumbnail((160, 160))
        corner = random.randrange(257 - stamp.width), random.randrange(257 - stamp.height)
        image, mask = Image.new('RGB', (256, 256), 'grey'), Image.new('L', (256, 256))
        image.paste(stamp, corner, stamp)
        mask.paste(stamp.getchannel('A').point(lambda alpha: 255 * (alpha > 127)), corner)
        split = 'train' if number % 5 else 'validation'
        for kind, picture in (('data', image), ('masks', mask)):
            folder = out / kind / split / name
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f'{number}.png')
