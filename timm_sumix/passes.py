"""The passes: the module that is trained, a timm model with its uncertainty head, and correct(), without training.

In one pass over the mixed images the outputs for the unmixed ones are unmixed from the last feature maps; with a second
one they are those of the unmixed images themselves. No formula knows which.
"""
from typing import Any, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn
from timm.models import group_parameters

from .checks import check_model, mixing_of, original_images, reads_map
from .compat import has_sync_batch_norm
from .correction import Ratio, evidence_map, unmix
from .maps import (
    FEATURES,
    NO_MAP,
    Found,
    features_by_place,
    find_map,
    output_and_map,
    warn_of_single_place,
    watch_features,
    with_features,
)
from .options import SUMixOptions
from .shown import Mixing
from .target import MixedTarget, ModelOutput


class _Pass(NamedTuple):
    """What one pass gives, as far as there is something that takes it."""
    logits: Optional[torch.Tensor] = None  # [N, C]
    distilled: Optional[torch.Tensor] = None  # as in ModelOutput
    pre_logits: Optional[torch.Tensor] = None  # [N, D], for the uncertainty head
    output: Any = None  # what forward_head takes
    features: Optional[torch.Tensor] = None  # the last map by place [N, h, w, D]


class SUMixModule(nn.Module):
    """A model and its uncertainty head. All is in one forward, as DistributedDataParallel and compile need it.

    Args:
        model: The timm model.
        ratio: What its outputs are for.
        uncertainty: Linear head on the model's pre-logits features, or None.
        original_pass: The pass over the unmixed images: 'none', 'no-grad' or 'grad'.
        has_term: Whether there is an uncertainty term, which sends gradient through the unmixed outputs.
    """

    def __init__(
            self,
            model: nn.Module,
            ratio: Ratio,
            uncertainty: Optional[nn.Module] = None,
            original_pass: str = 'none',
            has_term: bool = False,
    ):
        super().__init__()
        self.model: Any = model  # forward_features, forward_head and more are timm's own
        self.uncertainty: Optional[nn.Module] = uncertainty
        self.projection: Optional[nn.Module] = None  # of the pre-logits features, to those of a teacher
        self.original_pass = original_pass
        self.has_term = has_term
        unmixes_logits = original_pass == 'none' and ('logits' in ratio.reads or has_term)
        self.found = find_map(model) if unmixes_logits or reads_map(ratio) else Found(NO_MAP, head_reads_map=False)
        self.unmixes_logits = unmixes_logits and self.found.head_reads_map
        spared = ratio.instead_of_logits if self.unmixes_logits or original_pass != 'none' else ()
        self.reads, self.reads_mixed = (
            tuple(part for part in reads if part not in spared) for reads in (ratio.reads, ratio.reads_mixed))
        self.may_lack = ratio.may_lack

    def _run(self, input: torch.Tensor) -> _Pass:
        """Pass images through the model as it is, hooks and a forward of its own included."""
        if self.found.source == NO_MAP and self.uncertainty is None and self.projection is None:
            return self._pass(self.model(input))
        source = FEATURES if self.found.source == NO_MAP else self.found.source
        if torch.compiler.is_compiling():  # SUMixTask.compile() made sure that this is the model's forward
            output, maps = output_and_map(self.model, source, self.model.forward_features, input)
            logits = self.model.forward_head(output)
        else:
            with watch_features(self.model, source) as seen:
                logits = self.model(input)
            if not seen:
                raise TypeError(
                    f'the forward of {type(self.model).__name__} must call forward_features, whose output is needed')
            output, maps = seen[-1]
        if self.found.source == NO_MAP:
            return self._pass(logits, output)
        features = features_by_place(self.model, maps, image_size(input))
        if features.shape[1:3] == (1, 1) and not torch.compiler.is_compiling():
            warn_of_single_place(self.model, image_size(input))
        return self._pass(logits, output, features)

    def _pass(
            self, logits: Any, output: Any = None, features: Optional[torch.Tensor] = None, is_unmixed: bool = False,
    ) -> _Pass:
        # timm's models with a distillation head return its logits too
        logits, distilled = logits if isinstance(logits, tuple) else (logits, None)
        projection = None if is_unmixed else self.projection
        pre_logits = None
        if self.uncertainty is not None or projection is not None:
            pre_logits = self.model.forward_head(output, pre_logits=True)
        if projection is not None:
            distilled = projection(pre_logits)
        return _Pass(logits, distilled, pre_logits, output, features)

    def _unmix(self, made: _Pass, input: torch.Tensor, mixing: Mixing) -> ModelOutput:
        """Return the outputs for the unmixed images out of the pass over the mixed ones."""
        if made.features is None:
            return self._tell(_Pass(), self.reads, len(input), input.device)
        with torch.set_grad_enabled(self.has_term and torch.is_grad_enabled()):
            features, known = unmix(made.features, mixing)
            unmixed = _Pass(features=features)
            if self.unmixes_logits:
                output = with_features(self.model, made.output, features)
                unmixed = self._pass(self.model.forward_head(output), output, features, is_unmixed=True)
        return self._tell(unmixed, self.reads, len(input), input.device, known, mixing)

    def _tell(
            self, made: _Pass, reads: Tuple[str, ...], count: int, device: torch.device,
            known: Optional[torch.Tensor] = None, mixing: Optional[Mixing] = None) -> ModelOutput:
        """Return what a ratio reads of a pass over `count` images; of a single place nothing can be said."""
        maps, features, evidence = made.features, None, None
        if maps is None:
            reads = tuple(part for part in reads if part not in self.may_lack)
        if maps is not None and maps.shape[1:3] == (1, 1):
            maps = None
        if 'features' in reads:
            features = torch.zeros(count, 1, device=device) if maps is None else maps.mean((1, 2))
        if 'evidence' in reads:
            evidence = torch.ones(count, 1, 1, device=device) if maps is None else evidence_map(maps, known, mixing)
        head = None if self.uncertainty is None or made.pre_logits is None else self.uncertainty(made.pre_logits)
        return ModelOutput(made.logits, head, features, evidence, made.distilled)

    def forward(
            self,
            mixed: torch.Tensor,
            original: Optional[torch.Tensor] = None,
            mixing: Optional[Mixing] = None,
    ) -> Tuple[ModelOutput, Optional[ModelOutput]]:
        """Return the outputs for the mixed images, and for the unmixed ones where something reads them.

        Args:
            mixed: Mixed images [N, C, H, W].
            original: The unmixed images [N, C, H, W], for a pass of their own.
            mixing: How the images were mixed, to unmix without that pass; None: nothing was mixed.
        """
        made = self._run(mixed)
        mixed_output = self._tell(made, self.reads_mixed, len(mixed), mixed.device)
        if original is not None:
            with torch.set_grad_enabled(self.original_pass == 'grad' and torch.is_grad_enabled()):
                made = self._run(original)
            # outside no_grad, so that the head always gets gradient
            return mixed_output, self._tell(made, self.reads, len(original), original.device)
        if mixing is not None:
            return mixed_output, self._unmix(made, mixed, mixing)
        if self.unmixes_logits and self.training and has_sync_batch_norm(self.model):
            with torch.no_grad():  # processes whose batch is mixed call the head again, and wait for this one there
                self._pass(self.model.forward_head(made.output), made.output, is_unmixed=True)
        return mixed_output, None

    def named_parameters(self, prefix: str = '', recurse: bool = True, remove_duplicate: bool = True):
        """Yield the model's parameters by the names that they have in the model, then those of what is beside it.

        So every option of an optimizer that goes by names means the same with and without SUMix.
        """
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


def image_size(images: torch.Tensor) -> Tuple[int, int]:
    """Return height and width of images [N, C, H, W]."""
    return images.shape[-2], images.shape[-1]


@torch.no_grad()
def correct(
        model: torch.nn.Module,
        mixed: torch.Tensor,
        target: MixedTarget,
        options: Optional[SUMixOptions] = None,
) -> torch.Tensor:
    """Return the shares that a model would give the first images of a mixed batch.

    It makes the passes that the options ask for, in the mode that the model is in; `model.eval()` first leaves batch
    norm's statistics alone.

    Args:
        model: A timm model.
        mixed: Mixed images [N, C, H, W].
        target: The MixedTarget that came with them.
        options: How to correct; None: the defaults. The uncertainty term plays no part.

    Returns:
        Corrected shares [N], float32, in [0, 1].

    Raises:
        TypeError: If model wraps another, or lacks what the ratio needs.
        ValueError: If target lacks what the ratio needs, or it cannot be unmixed.

    Example:
        >>> mixup = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode='pair', num_classes=1000)
        >>> mixed, target = mixup(images, labels)
        >>> lam = correct(model.eval(), mixed, target)
    """
    options = options or SUMixOptions()
    ratio = options.create_ratio()
    check_model(model, ratio, options.resolved_pass)
    if not target.mixed or not ratio.reads and not ratio.reads_mixed:
        return target.lam
    original = original_images(target, mixed) if options.resolved_pass != 'none' else None
    module = SUMixModule(model, ratio, original_pass=options.resolved_pass)
    mixed_output, original_output = module(mixed, original, mixing_of(target, options.unmixes))
    return ratio(mixed_output, original_output, target)
