"""The passes: the module that is trained, a timm model with its uncertainty head, and correct(), without training.

A step calls forward_features and forward_head, as timm's own FeatureDistillationTask does, compiled or not. In one pass
over the mixed images the outputs for the unmixed ones are unmixed from the last feature maps; with a second one they
are those of the unmixed images themselves. No formula knows which.
"""
import logging
from typing import Any, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn

from .compat import call_with_hooks, check_model
from .correction import Ratio, evidence_map, unmix
from .maps import (
    FEATURES,
    NO_MAP,
    Found,
    features_by_place,
    find_map,
    image_size,
    is_single_place,
    output_and_map,
    quiet,
    uncounted,
    with_features,
)
from .options import SUMixOptions
from .parameters import WithHeads
from .region import Mixing
from .target import MixedTarget, ModelOutput

_logger = logging.getLogger(__name__)


class _Pass(NamedTuple):
    """What one pass gives; None where unused."""
    logits: Optional[torch.Tensor] = None  # [N, C]
    distilled: Optional[torch.Tensor] = None  # as in ModelOutput
    pre_logits: Optional[torch.Tensor] = None  # [N, D], for the uncertainty head
    output: Any = None  # what forward_head takes
    features: Optional[torch.Tensor] = None  # the last map by place [N, h, w, D]


class SUMixModule(WithHeads):
    """A model and its uncertainty head. All is in one forward, as DistributedDataParallel and compile need it.

    Args:
        model: The timm model.
        ratio: What its outputs are for.
        uncertainty: Linear head on the model's pre-logits features, or None.
        original_pass: The pass over the unmixed images: 'none', 'no-grad' or 'grad'.
        has_term: Whether there is an uncertainty term, which sends gradient through the unmixed outputs.
        verbose: Whether to warn of what the model lacks.

    Raises:
        TypeError: If the model is compiled or wrapped, is none, or lacks the parts that the ratio needs.
    """

    def __init__(
            self,
            model: nn.Module,
            ratio: Ratio,
            uncertainty: Optional[nn.Module] = None,
            original_pass: str = 'none',
            has_term: bool = False,
            verbose: bool = True,
    ):
        super().__init__(model, uncertainty)
        self.ratio = ratio
        self.original_pass = original_pass
        self.has_term = has_term
        self.wants_logits = original_pass == 'none' and (has_term or 'logits' in ratio.needs)
        self.needs_map = self.wants_logits or not {'features', 'evidence'}.isdisjoint(ratio.needs)
        self.found = Found()
        self.is_prepared = False
        self._has_warned = not verbose
        check_model(model, self.needs_map or uncertainty is not None)

    @torch.compiler.disable
    def prepare(self, images: torch.Tensor) -> None:
        """Find the model's map from the first of the images [N, C, H, W], once; a warning says what it lacks.

        Raises:
            ValueError: If the model's forward does more than forward_features and forward_head, or there is an
                uncertainty term and the logits of the unmixed images cannot be unmixed.
        """
        if self.is_prepared:
            return
        found = find_map(self.model, images[:1]) if self.needs_map or self.reads_pre_logits else Found()
        name, lacks_logits = type(self.model).__name__, self.wants_logits and not found.head_reads_map
        if lacks_logits and self.has_term:
            reason = found.reason or 'the head reads more than the last feature map'
            raise ValueError(
                f'the uncertainty term needs logits of the unmixed images, which cannot be unmixed of {name} ({reason})'
                ": use original_pass 'grad', another global_pool of the model, or gamma 0")
        self.found, self.is_prepared = found if self.needs_map else Found(noisy=found.noisy), True
        if self.needs_map and found.source == NO_MAP:
            self._warn(found.reason)
        elif lacks_logits and not self._has_warned:
            _logger.warning(
                f'SUMix: the head of {name} reads more than the last feature map, a class token for example: weaker '
                "correction, by the map alone. Try global_pool 'avg' (--gp avg), or original_pass 'no-grad'.")

    def _warn(self, reason: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            _logger.warning(
                f'SUMix: {type(self.model).__name__}: {reason}: labels stay as they are by area. Ratio '
                "'similarity' with original_pass 'no-grad' needs no map.")

    def _run(self, images: torch.Tensor, is_unmixed: bool = False) -> _Pass:
        """Pass images through the model."""
        if self.found.source == NO_MAP and not self.reads_pre_logits:
            return self._pass(self.model(images))
        source = FEATURES if self.found.source == NO_MAP else self.found.source
        kept = []

        def forward(images: torch.Tensor) -> Any:
            kept.append((*output_and_map(self.model, source, images), image_size(images)))
            return self.model.forward_head(kept[0][0])

        logits = call_with_hooks(self.model, forward, images)
        (output, maps, size), = kept
        features = None if self.found.source == NO_MAP else features_by_place(self.model, maps, size)
        if features is not None and is_single_place(features) and not torch.compiler.is_compiling():
            self._warn(f'the map has a single place for images of {size[0]} x {size[1]}')
        return self._pass(logits, output, features, is_unmixed)

    def _pass(
            self, logits: Any, output: Any = None, features: Optional[torch.Tensor] = None, is_unmixed: bool = False,
    ) -> _Pass:
        # timm's models with a distillation head return its logits too
        logits, distilled = logits if isinstance(logits, tuple) else (logits, None)
        projection = None if is_unmixed else self.projection  # a teacher sees the mixed images alone
        pre_logits = None
        if self.uncertainty is not None or projection is not None:
            with uncounted(self.found.noisy):
                pre_logits = self.model.forward_head(output, pre_logits=True)
        if projection is not None:
            distilled = projection(pre_logits)
        return _Pass(logits, distilled, pre_logits, output, features)

    def _unmix(self, made: _Pass, mixing: Mixing) -> Tuple[_Pass, Optional[torch.Tensor]]:
        """Return what a pass over the unmixed images would give, and which part of their maps is seen."""
        if made.features is None:
            return _Pass(), None
        with torch.set_grad_enabled(self.has_term and torch.is_grad_enabled()):
            features, seen = unmix(made.features, mixing)
            if not (self.wants_logits and self._gives_logits(made)):
                return _Pass(features=features), seen
            output = with_features(self.model, made.output, features)
            with quiet(self.model, self.found.noisy):
                return self._pass(self.model.forward_head(output), output, features, is_unmixed=True), seen

    def _gives_logits(self, made: _Pass) -> bool:
        """Whether the head gives logits of the unmixed map: of one of several places, or where a term asks."""
        is_single = made.features is not None and is_single_place(made.features)
        return self.found.head_reads_map and (self.has_term or not is_single)

    def _fields(self, made: _Pass) -> Tuple[str, ...]:
        """Return what is given of the unmixed images: without their logits, what takes their place."""
        lacks = bool(self.ratio.needs) and self.wants_logits and not self._gives_logits(made)
        return ('features', 'evidence') if lacks else self.ratio.needs

    def _to_output(
            self, made: _Pass, images: torch.Tensor, fields: Tuple[str, ...], seen: Optional[torch.Tensor] = None,
            mixing: Optional[Mixing] = None) -> ModelOutput:
        """Return what is asked of a pass over images; where there is no map, or one of a single place, constants."""
        maps, features, evidence = made.features, None, None
        if maps is not None and is_single_place(maps):
            maps = None
        if 'features' in fields:
            features = images.new_zeros(len(images), 1) if maps is None else maps.mean((1, 2))
        if 'evidence' in fields:
            evidence = images.new_ones(len(images), 1, 1) if maps is None else evidence_map(maps, seen, mixing)
        head = None if self.uncertainty is None or made.pre_logits is None else self.uncertainty(made.pre_logits)
        return ModelOutput(made.logits, head, features, evidence, made.distilled)

    def forward(
            self, mixed: torch.Tensor, original: Optional[torch.Tensor] = None, mixing: Optional[Mixing] = None,
    ) -> Tuple[ModelOutput, Optional[ModelOutput]]:
        """Return the outputs for the mixed images, and for the unmixed ones where the ratio needs them.

        Args:
            mixed: Mixed images [N, C, H, W].
            original: The unmixed images [N, C, H, W], for a pass of their own.
            mixing: How the images were mixed, to unmix without that pass; None: nothing was mixed.
        """
        made = self._run(mixed)
        fields = self._fields(made)
        mixed_output = self._to_output(made, mixed, tuple(field for field in fields if field != 'evidence'))
        if original is not None:
            with torch.set_grad_enabled(self.original_pass == 'grad' and torch.is_grad_enabled()):
                second = self._run(original, is_unmixed=True)
            return mixed_output, self._to_output(second, original, fields)  # not in no_grad: a gradient for the head
        if mixing is None:
            return mixed_output, None
        unmixed, seen = self._unmix(made, mixing)
        return mixed_output, self._to_output(unmixed, mixed, fields, seen, mixing)


def original_images(target: MixedTarget, mixed: torch.Tensor) -> torch.Tensor:
    """Return the unmixed images [N, C, H, W] for their pass, in the memory format of the mixed ones."""
    if target.original is None:
        raise ValueError("a second pass needs target.original, the unmixed images, got None: or original_pass 'none'")
    channels_last = mixed.is_contiguous(memory_format=torch.channels_last) and not mixed.is_contiguous()
    return target.original.contiguous(memory_format=torch.channels_last) if channels_last else target.original


def mixing_of(target: MixedTarget, unmixes: bool) -> Optional[Mixing]:
    """Return how a batch was mixed, None where nothing is unmixed; ValueError if the target does not say."""
    if not target.mixed or not unmixes:
        return None
    if target.mixing is None:
        raise ValueError(
            "to unmix, target.mask must be the mask that the images were mixed by, got None: give it, or use "
            "original_pass 'no-grad'")
    return target.mixing


@torch.no_grad()
def correct(
        model: torch.nn.Module,
        mixed: torch.Tensor,
        target: MixedTarget,
        options: Optional[SUMixOptions] = None,
) -> torch.Tensor:
    """Return the shares that a model would give the first images of a mixed batch.

    It makes the passes that the options ask for, in the mode that the model is in; `model.eval()` first leaves batch
    norm's statistics alone. Where the model has no feature map, the shares stay as they are by area, without a warning.

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
    module = SUMixModule(model, ratio, original_pass=options.resolved_pass, verbose=False)
    if not target.mixed or not ratio.needs:
        return target.lam
    module.prepare(mixed)
    original = original_images(target, mixed) if options.resolved_pass != 'none' else None
    mixed_output, original_output = module(mixed, original, mixing_of(target, options.unmixes))
    return ratio(mixed_output, original_output, target)
