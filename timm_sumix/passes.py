"""The module that is trained: a timm model and its uncertainty head, with one or two passes in one forward."""
from typing import Any, Callable, Optional, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.models import group_parameters

from .compat import scaled_size
from .correction import Ratio, evidence_map, mixed_evidence_map
from .maps import FEATURES, NO_MAP, find_map, output_and_map
from .target import HeadOutput


class SUMixModule(nn.Module):
    """A model and its uncertainty head. Both passes are in one forward, as DistributedDataParallel and compile need it.

    Args:
        model: The timm model.
        ratio: What its outputs are for; None: logits alone.
        uncertainty: Linear head on the model's pre-logits features, or None.
        original_grad: Whether gradient flows into the model through the pass over the unmixed images.
    """

    def __init__(
            self,
            model: nn.Module,
            ratio: Optional[Ratio] = None,
            uncertainty: Optional[nn.Module] = None,
            original_grad: bool = False,
    ):
        super().__init__()
        self.model: Any = model  # forward_features, forward_head and more are timm's own
        self.uncertainty = uncertainty
        self.features = ratio is not None and ratio.features
        self.mixed_evidence = ratio is not None and ratio.mixed_evidence
        self.original_evidence = ratio is not None and ratio.original_evidence
        self.original_grad = original_grad
        self.map_source = find_map(model) if self.mixed_evidence or self.original_evidence else FEATURES

    def _run(self, input: torch.Tensor, read_evidence: Optional[Callable[..., torch.Tensor]] = None) -> HeadOutput:
        """Pass images through the model; the output's features are what the head needs too."""
        has_features = self.features or self.uncertainty is not None
        if not has_features and read_evidence is None:
            return HeadOutput(self.model(input))
        output, maps = output_and_map(self.model, input, self.map_source)
        return HeadOutput(
            self.model.forward_head(output),
            features=self.model.forward_head(output, pre_logits=True) if has_features else None,
            evidence=None if read_evidence is None else self._evidence(maps, input, read_evidence))

    def _evidence(self, maps: Any, input: torch.Tensor, read_evidence: Callable[..., torch.Tensor]) -> torch.Tensor:
        if self.map_source == NO_MAP:  # a single place, of which nothing can be said
            return torch.ones(len(input), 1, 1, device=input.device)
        return read_evidence(self.model, maps, (input.shape[-2], input.shape[-1]))

    def _add_uncertainty(self, output: HeadOutput) -> HeadOutput:
        if self.uncertainty is not None:
            output = output._replace(uncertainty=self.uncertainty(output.features))
        return output if self.features else output._replace(features=None)

    def forward(
            self,
            mixed: torch.Tensor,
            original: Optional[torch.Tensor] = None,
    ) -> Tuple[HeadOutput, Optional[HeadOutput]]:
        """Return the outputs for mixed images [N, C, H, W] and, where given, for the unmixed ones."""
        mixed_output = self._add_uncertainty(self._run(mixed, mixed_evidence_map if self.mixed_evidence else None))
        if original is None:
            return mixed_output, None
        with torch.set_grad_enabled(self.original_grad and torch.is_grad_enabled()):
            original_output = self._run(original, evidence_map if self.original_evidence else None)
        # outside no_grad, so that the head always gets gradient
        return mixed_output, self._add_uncertainty(original_output)

    def named_parameters(self, prefix: str = '', recurse: bool = True, remove_duplicate: bool = True):
        """Yield the model's parameters by the names that they have in the model, then the head's.

        So every option of an optimizer that goes by names means the same with and without SUMix.
        """
        if not recurse:
            return
        start = f'{prefix}.' if prefix else ''
        yield from self.model.named_parameters(prefix, remove_duplicate=remove_duplicate)
        if self.uncertainty is not None:
            yield from self.uncertainty.named_parameters(f'{start}uncertainty', remove_duplicate=remove_duplicate)

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


def prepare_originals(model: nn.Module, images: torch.Tensor, mixed: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the unmixed images as their pass takes them: at its resolution, in the memory format of the mixed ones.

    Args:
        model: The model, which may take only whole patches.
        images: Unmixed images [N, C, H, W].
        mixed: Mixed images [N, C, H, W].
        scale: Resolution as a fraction of theirs, in (0, 1].
    """
    if scale != 1.:
        size = scaled_size(model, (images.shape[-2], images.shape[-1]), scale)
        # in float32: a CPU has no antialiased resize in half precision
        resized = F.interpolate(images.float(), size=size, mode='bilinear', antialias=True)
        images = resized.to(images.dtype)
    channels_last = mixed.is_contiguous(memory_format=torch.channels_last) and not mixed.is_contiguous()
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images
