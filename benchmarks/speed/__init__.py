"""How long does mixing take? SUMixMixup beside timm.data.Mixup, and each policy as a multiple of CutMix."""
