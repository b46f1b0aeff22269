"""SUMix for timm: mixed-image training whose labels follow what each mixed image still shows.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805
"""
from .audit import correct
from .loss import SUMixLoss
from .mixing import FastCollateSUMix, SUMixMixup
from .options import SUMixOptions
from .target import HeadOutput, MixedTarget
from .task import SUMixTask

__version__ = '0.1.0'
__all__ = [
    'SUMixMixup', 'FastCollateSUMix', 'MixedTarget', 'SUMixLoss', 'HeadOutput', 'SUMixTask', 'SUMixOptions', 'correct']
