"""A model with what is trained beside it, whose parameters have the names and the groups that they have in the model.

So every option of an optimizer that goes by names or layers means the same with and without SUMix.
"""
from typing import Any, Optional

import torch.nn as nn
from timm.models import group_parameters


class WithHeads(nn.Module):
    """A timm model and its heads, which read its pre-logits features."""

    def __init__(self, model: nn.Module, uncertainty: Optional[nn.Module] = None):
        super().__init__()
        self.model: Any = model  # forward_features, forward_head and more are timm's own
        self.uncertainty: Optional[nn.Module] = uncertainty
        self.projection: Optional[nn.Module] = None  # to a teacher's features

    @property
    def reads_pre_logits(self) -> bool:
        """Whether there is a head."""
        return self.uncertainty is not None or self.projection is not None

    def named_parameters(self, prefix: str = '', recurse: bool = True, remove_duplicate: bool = True):
        """Yield the model's parameters by the names that they have in the model, then those of the heads."""
        start = f'{prefix}.' if prefix else ''
        for name, parameter in super().named_parameters('', recurse, remove_duplicate):
            yield start + name.removeprefix('model.'), parameter

    def no_weight_decay(self):
        """Return the names of the parameters that the model keeps free of weight decay."""
        return self.model.no_weight_decay() if hasattr(self.model, 'no_weight_decay') else set()

    @property
    def group_matcher(self):
        """The model's own layer groups for layer decay, the heads in the last; absent where the model has none."""
        model_matcher = self.model.group_matcher

        def group_matcher(coarse: bool = False):
            layers = group_parameters(self.model, model_matcher(coarse=coarse), reverse=True)
            last = max(layers.values())
            return lambda name: layers.get(name, last)

        return group_matcher
