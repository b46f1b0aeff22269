"""SUMix for timm: mixed-image training with labels corrected by what the network still recognises.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805
"""
from .loss import SUMixLoss
from .mixup import FastCollateSUMix, SUMixMixup
from .target import HeadOutput, MixedTarget
from .task import SUMixTask

__version__ = '0.1.0'
__all__ = ['SUMixMixup', 'FastCollateSUMix', 'MixedTarget', 'SUMixLoss', 'HeadOutput', 'SUMixTask']
