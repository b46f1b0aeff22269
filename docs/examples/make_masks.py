"""Masks for --sumix-masks by one of torchvision's segmentation models: python docs/examples/make_masks.py DATA MASKS

For each DATA/**/NAME.jpg, or .png, it writes MASKS/**/NAME.png. The model knows 20 kinds of objects; where it finds
none, the mask is black, which says that the object is not known.
"""
import sys
from pathlib import Path

import torch
from torchvision.io import ImageReadMode, read_image, write_png
from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights, deeplabv3_resnet50
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

data, masks = map(Path, sys.argv[1:])
device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
weights = DeepLabV3_ResNet50_Weights.DEFAULT
model, transform = deeplabv3_resnet50(weights=weights).eval().to(device), weights.transforms()
for path in sorted(data.rglob('*')):
    if path.suffix.lower() not in ('.jpg', '.jpeg', '.png'):
        continue
    image = read_image(str(path), ImageReadMode.RGB)
    with torch.no_grad():
        scores = model(transform(image).unsqueeze(0).to(device))['out']
    is_object = (scores.argmax(1) > 0).to(torch.uint8)  # class 0 is the background
    out = masks / path.relative_to(data).with_suffix('.png')
    out.parent.mkdir(parents=True, exist_ok=True)
    write_png(255 * resize(is_object, image.shape[-2:], InterpolationMode.NEAREST).cpu(), str(out))
