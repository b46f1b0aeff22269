"""What SUMixTask trains: a timm model and its uncertainty head, as one module with one forward."""
from typing import Optional, Tuple

import torch
import torch.nn as nn
from timm.models import group_parameters

from .places import feature_strength
from .target import HeadOutput


class SUMixTrainable(nn.Module):
    """All that is trained, with both passes inside one forward, as DistributedDataParallel and compile need it.

    Args:
        model: The timm model.
        uncertainty: Linear head on the model's pre-logits features, or None.
        features: Whether outputs must hold the features.
        original_grad: Whether gradient flows into the model through the pass over the originals.
        places: Whether the originals' outputs must hold the strength of their features by place.
    """

    def __init__(
            self,
            model: nn.Module,
            uncertainty: Optional[nn.Module],
            features: bool,
            original_grad: bool,
            places: bool = False,
    ):
        super().__init__()
        self.model = model
        self.uncertainty = uncertainty
        self.features = features
        self.original_grad = original_grad
        self.places = places

    def _parts(self, input: torch.Tensor, places: bool = False) -> Tuple[Optional[torch.Tensor], ...]:
        """Return logits, pooled features and their strength by place, each None where it is not needed."""
        if self.uncertainty is None and not self.features and not places:
            return self.model(input), None, None
        maps = self.model.forward_features(input)
        strength = feature_strength(self.model, maps, tuple(input.shape[-2:])) if places else None
        return self.model.forward_head(maps), self.model.forward_head(maps, pre_logits=True), strength

    def _output(
            self,
            logits: torch.Tensor,
            features: Optional[torch.Tensor],
            strength: Optional[torch.Tensor],
    ) -> HeadOutput:
        uncertainty = None if self.uncertainty is None else self.uncertainty(features)
        return HeadOutput(logits, uncertainty, features if self.features else None, strength)

    def forward(
            self,
            mixed: torch.Tensor,
            original: Optional[torch.Tensor] = None,
    ) -> Tuple[HeadOutput, Optional[HeadOutput]]:
        """Return the outputs for mixed images [N, C, H, W] and, where given, for the originals."""
        mixed_output = self._output(*self._parts(mixed))
        if original is None:
            return mixed_output, None
        with torch.set_grad_enabled(self.original_grad and torch.is_grad_enabled()):
            parts = self._parts(original, self.places)
        return mixed_output, self._output(*parts)  # out here the head learns in any case

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
