"""SUMix for timm: mixed-image training whose labels follow what each mixed image still shows.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805
"""
from .correction import Ratio
from .distillation import SUMixDistillationTask
from .loss import SUMixLoss
from .mixing import FastCollateSUMix, Policy, SUMixMixup
from .options import SUMixOptions
from .passes import correct
from .target import MixedTarget, ModelOutput
from .task import SUMixTask

__version__ = '0.1.0'
__all__ = [
    'SUMixMixup', 'FastCollateSUMix', 'MixedTarget', 'SUMixLoss', 'ModelOutput', 'SUMixTask',
    'SUMixDistillationTask', 'SUMixOptions', 'Ratio', 'Policy', 'correct']
