"""What SUMixTask trains: a timm model and its uncertainty head, as one module with one forward."""
from typing import Optional, Tuple

import torch
import torch.nn as nn
from timm.models import group_parameters

from .target import HeadOutput


class SUMixTrainable(nn.Module):
    """All that is trained, with both passes inside one forward, as DistributedDataParallel and compile need it.

    Args:
        model: The timm model.
        uncertainty: Linear head on the model's pre-logits features, or None.
        features: Whether outputs must hold the features.
        original_grad: Whether gradient flows into the model through the pass over the originals.
    """

    def __init__(self, model: nn.Module, uncertainty: Optional[nn.Module], features: bool, original_grad: bool):
        super().__init__()
        self.model = model
        self.uncertainty = uncertainty
        self.features = features
        self.original_grad = original_grad

    def _logits_and_features(self, input: torch.Tensor) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        if self.uncertainty is None and not self.features:
            return self.model(input), None
        maps = self.model.forward_features(input)
        return self.model.forward_head(maps), self.model.forward_head(maps, pre_logits=True)

    def _output(self, logits: torch.Tensor, features: Optional[torch.Tensor]) -> HeadOutput:
        uncertainty = None if self.uncertainty is None else self.uncertainty(features)
        return HeadOutput(logits, uncertainty, features if self.features else None)

    def forward(
            self,
            mixed: torch.Tensor,
            original: Optional[torch.Tensor] = None,
    ) -> Tuple[HeadOutput, Optional[HeadOutput]]:
        """Return the outputs for mixed images [N, C, H, W] and, where given, for the originals."""
        mixed_output = self._output(*self._logits_and_features(mixed))
        if original is None:
            return mixed_output, None
        if self.original_grad:
            return mixed_output, self._output(*self._logits_and_features(original))
        with torch.no_grad():
            logits, features = self._logits_and_features(original)
        return mixed_output, self._output(logits, features)  # the head still learns

    def no_weight_decay(self):
        """Return the names of the parameters that the model keeps free of weight decay."""
        names = self.model.no_weight_decay() if hasattr(self.model, 'no_weight_decay') else ()
        return {f'model.{name}' for name in names}

    @property
    def group_matcher(self):
        """The model's own layer groups for layer decay, the head in the last; absent where the model has none."""
        model_matcher = self.model.group_matcher

        def group_matcher(coarse: bool = False):
            layers = group_parameters(self.model, model_matcher(coarse=coarse), reverse=True)
            last = max(layers.values())
            return lambda name: layers.get(name.removeprefix('model.'), last)

        return group_matcher
