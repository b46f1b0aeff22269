"""Shares of every ratio, mode and policy on fixed inputs: tests compare them with those of data/golden.npz.

    python tests/golden.py    writes that file anew; only where shares are meant to change, and say why.
"""
from pathlib import Path
from typing import Dict

import numpy as np
import timm
import torch

from timm_sumix import SUMixMixup, SUMixOptions, correct
from timm_sumix.mixing import MODES, POLICIES

FILE = Path(__file__).parent / 'data' / 'golden.npz'
RATIOS = ('combined', 'evidence', 'visible', 'feature', 'similarity', 'area', 'released', (0.5, 1., 0.), (0.25, 1., 2.))
MODELS = {  # a head that reads the map alone, and one that reads a class token
    'map': {'model_name': 'test_resnet', 'output_stride': 8}, 'token': {'model_name': 'test_vit', 'img_size': 64}}


def golden_shares() -> Dict[str, np.ndarray]:
    """Return {model, mode, policy, ratio and passes: shares [8]}."""
    found = {}
    for name, kwargs in MODELS.items():
        torch.manual_seed(0)
        model = timm.create_model(**kwargs, num_classes=5).eval()
        for parameter in model.parameters():  # else predictions are nearly alike
            parameter.data.mul_(2.)
        images, labels = torch.rand(8, 3, 64, 64).pow(3.) * 4. - 1., torch.arange(8) % 5
        for mode in MODES:
            for policy in POLICIES:
                torch.manual_seed(1)
                alpha = {} if policy == 'smoothmix' else {'alpha': 1.}
                mixed, target = SUMixMixup(
                    mode=mode, num_classes=5, policy=policy, policy_kwargs=alpha)(images, labels)
                for ratio in RATIOS:
                    for passes in ('none', 'no-grad'):
                        if ratio == ('released' if passes == 'none' else 'area'):
                            continue
                        key = ' '.join(map(str, (name, mode, policy, ratio, passes)))
                        options = SUMixOptions(ratio, original_pass=passes)
                        found[key] = correct(model, mixed, target, options).numpy()
    return found


if __name__ == '__main__':
    np.savez_compressed(FILE, **golden_shares())
