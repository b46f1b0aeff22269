"""How the share of each label in a mixed image is corrected."""
from .base import Ratio
from .evidence import evidence_map, mixed_evidence_map, visible_evidence
from .fading import Fading
from .ratios import RATIOS, WITH_ORIGINAL, create_ratio

__all__ = [
    'RATIOS', 'WITH_ORIGINAL', 'Fading', 'Ratio', 'create_ratio', 'evidence_map', 'mixed_evidence_map',
    'visible_evidence']
