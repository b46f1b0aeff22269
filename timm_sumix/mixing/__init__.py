"""Mixing images: drop-ins for timm.data.Mixup and timm.data.FastCollateMixup, and the mixing policies."""
from .draws import Draws, Part
from .mixup import MODES, FastCollateSUMix, SUMixMixup
from .policies import POLICIES, Policy

__all__ = ['MODES', 'POLICIES', 'Draws', 'FastCollateSUMix', 'Part', 'Policy', 'SUMixMixup']
