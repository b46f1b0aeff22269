"""A model with what is trained beside it, whose parameters have the names and the groups that they have in the model.

So every option of an optimizer that goes by names or layers means the same with and without SUMix.
"""
from typing import Any, Optional

import torch.nn as nn
from timm.models import group_parameters


class WithHeads(nn.Module):
    """A model and its heads.

    Args:
        model: The timm model.
        uncertainty: Linear head on the model's pre-logits features, or None.
    """

    def __init__(self, model: nn.Module, uncertainty: Optional[nn.Module] = None):
        super().__init__()
        self.model: Any = model  # forward_features, forward_head and more are timm's own
        self.uncertainty: Optional[nn.Module] = uncertainty
        self.projection: Optional[nn.Module] = None  # of the pre-logits features, to those of a teacher

    @property
    def reads_pre_logits(self) -> bool:
        """Whether there is a head, which reads the model's pre-logits features."""
        return self.uncertainty is not None or self.projection is not None

    def named_parameters(self, prefix: str = '', recurse: bool = True, remove_duplicate: bool = True):
        """Yield the model's parameters by the names that they have in the model, then those of what is beside it."""
        if not recurse:
            return
        start = f'{prefix}.' if prefix else ''
        yield from self.model.named_parameters(prefix, remove_duplicate=remove_duplicate)
        for name, head in (('uncertainty', self.uncertainty), ('projection', self.projection)):
            if head is not None:
                yield from head.named_parameters(f'{start}{name}', remove_duplicate=remove_duplicate)

    def no_weight_decay(self):
        """Return the names of the parameters that the model keeps free of weight decay."""
        return self.model.no_weight_decay() if hasattr(self.model, 'no_weight_decay') else set()

    @property
    def group_matcher(self):
        """The model's own layer groups for layer decay, the head in the last; absent where the model has none."""
        model_matcher = self.model.group_matcher

        def group_matcher(coarse: bool = False):
            layers = group_parameters(self.model, model_matcher(coarse=coarse), reverse=True)
            last = max(layers.values())
            return lambda name: layers.get(name, last)

        return group_matcher
