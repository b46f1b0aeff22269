"""How the share of each label in a mixed image is corrected."""
from .base import ONE_CLASS, Ratio
from .evidence import evidence_map, visible_evidence
from .ratios import RATIOS, create_ratio
from .unmixing import unmix

__all__ = ['ONE_CLASS', 'RATIOS', 'Ratio', 'create_ratio', 'evidence_map', 'unmix', 'visible_evidence']
