"""The passes: the module that is trained, a timm model with its uncertainty head, and correct(), without training.

A step calls forward_features and forward_head, as timm's own FeatureDistillationTask does, compiled or not.
"""
import logging
from functools import partial
from typing import Any, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn
from timm.models import group_parameters

from .attention import attended_evidence, pass_with_attention, reads_attention
from .compat import check_hooks, check_model
from .correction import Ratio, evidence_map, unmix, unmix_by_area
from .correction.formula import Formula
from .maps import Found, call_parts, features_by_place, find_map, is_single_place, switched_off, with_features
from .options import SUMixOptions
from .region import Mixing
from .target import MixedTarget, ModelOutput

_logger = logging.getLogger(__name__)


class _Pass(NamedTuple):
    """What a pass of the model gives; None where unused."""
    logits: Any = None  # [N, C]; timm's models with a distillation head return two of them
    pre_logits: Optional[torch.Tensor] = None  # [N, D], what the uncertainty head and a projection read
    head_input: Any = None  # what forward_head takes
    maps: Optional[torch.Tensor] = None  # the last map by place [N, h, w, D], and what pass_with_attention adds


class SUMixModule(nn.Module):
    """A model and its uncertainty head. All is in one forward, as DistributedDataParallel and compile need it.

    Args:
        model: The timm model; TypeError if it is compiled or wrapped, is none, or lacks what the ratio needs.
        ratio: The ratio that reads the outputs.
        original_pass: The pass over the unmixed images: 'none', 'no-grad' or 'grad'.
        term: What the uncertainty term reads: 'logits', or a 'head' that is put into `uncertainty`; None: no term.
        verbose: Whether to warn of what the model lacks.
    """

    def __init__(
            self, model: nn.Module, ratio: Ratio, original_pass: str = 'none', term: Optional[str] = None,
            verbose: bool = True):
        super().__init__()
        self.model: Any = model  # forward_features, forward_head and more are timm's own
        self.uncertainty: Optional[nn.Module] = None  # heads on the model's pre-logits features: of the term,
        self.projection: Optional[nn.Module] = None  # and of distillation, to a teacher's features
        self.fields = ratio.needs  # of ModelOutput
        self._is_formula = isinstance(ratio, Formula)  # which does without logits
        self.original_pass = original_pass
        self.has_term = term is not None
        self.unmixes_logits = original_pass == 'none' and (self.has_term or 'logits' in ratio.needs)
        self.needs_map = self.unmixes_logits or not {'features', 'evidence'}.isdisjoint(ratio.needs)
        self.found = Found()
        self.reads_attention = self.is_prepared = False
        self._has_warned = not verbose
        check_model(model, self.needs_map or term == 'head')

    @torch.compiler.disable
    def prepare(self, images: torch.Tensor) -> None:
        """Find the model's map from the first of the images [N, C, H, W], once, and warn of what it lacks.

        ValueError if forward does more than forward_features and forward_head, or a term's logits cannot be unmixed.
        """
        if self.is_prepared:
            return
        found = find_map(self.model, images[:1]) if self.needs_map or self.reads_pre_logits else Found()
        if self.needs_map and not found.source:
            self._lacks_map(found.reason)
        self.is_prepared = True
        self.found = found if self.needs_map else Found(noisy=found.noisy)  # without a map, the head's modules alone
        attends = bool(self.found.source) and reads_attention(self.model)
        if attends and self.unmixes_logits and self._is_formula and not self.has_term:  # by area logits are too rough
            self.fields, self.unmixes_logits = ('features', 'evidence'), False
        self.reads_attention = attends and 'evidence' in self.fields
        said = 'labels follow the evidence, weighted by what the class token attends to' if self.reads_attention else (
            'tokens without a place, such as a class token, are unmixed by area')
        if (self.reads_attention or self.unmixes_logits and self.found.has_others) and not self._has_warned:
            _logger.info(f'SUMix: {type(self.model).__name__}: {said}.')

    def _lacks_map(self, reason: str) -> None:
        """Warn once that no map of several places was found; ValueError if the uncertainty term needs one."""
        name = type(self.model).__name__
        if self.has_term and self.unmixes_logits:
            raise ValueError(
                f'the uncertainty term needs logits of the unmixed images, and {name} has no map to unmix ({reason}): '
                "use original_pass 'grad', or gamma 0")
        if not self._has_warned:
            self._has_warned = True
            _logger.warning(
                f"SUMix: {name}: {reason}: labels stay as they are by area. Ratio 'similarity' with original_pass "
                "'no-grad' needs no map.")

    def forward(
            self, mixed: torch.Tensor, original: Optional[torch.Tensor] = None, mixing: Optional[Mixing] = None,
    ) -> Tuple[ModelOutput, Optional[ModelOutput]]:
        """Return the outputs for the mixed images [N, C, H, W], and for the unmixed ones where the ratio needs them.

        The latter are of a pass over `original` [N, C, H, W] or, without it, unmixed from the last feature maps of the
        mixed images by `mixing`; with nothing in them where there is no map, None where nothing was mixed.
        """
        first = self._pass(mixed, is_mixed=True)
        mixed_output = self._output(first, is_mixed=True)
        if original is not None:  # a second pass
            with torch.set_grad_enabled(self.original_pass == 'grad' and torch.is_grad_enabled()):
                second = self._pass(original)
            return mixed_output, self._output(second)  # not in no_grad: a gradient for the head
        if mixing is None or first.maps is None:
            return mixed_output, None if mixing is None else ModelOutput(None)
        # the ratio needs no gradient, the term does
        with torch.set_grad_enabled(self.has_term and torch.is_grad_enabled()):
            maps, seen = unmix(first.maps, mixing)
            unmixed = _Pass(maps=maps)
            if self.unmixes_logits:
                head_input = with_features(
                    self.model, self.found.source, first.head_input, self._split(maps)[0],
                    partial(unmix_by_area, mixing=mixing))
                with switched_off('training', (self.model, *self.found.noisy)):  # no dropout, no batch counted
                    logits = self.model.forward_head(head_input)
                    unmixed = _Pass(logits, self._pre_logits(head_input), maps=maps)
        return mixed_output, self._output(unmixed, seen=seen, mixing=mixing)

    def _pass(self, images: torch.Tensor, is_mixed: bool = False) -> _Pass:
        """Call the model's parts on images [N, C, H, W]."""
        if not self.found.source and not self.reads_pre_logits:
            return _Pass(self.model(images))  # any forward will do
        check_hooks(self.model)
        size, maps = images.shape[-2:], None
        if self.reads_attention:
            head_input, attended = pass_with_attention(self.model, images)
            maps = torch.cat([features_by_place(self.model, head_input, size), attended], dim=-1)
        else:
            head_input, output = call_parts(self.model, self.found.source, images)
            maps = features_by_place(self.model, output, size) if self.found.source else None
        is_single = is_single_place(maps)
        if is_single and (self.has_term and self.unmixes_logits or not torch.compiler.is_compiling()):
            self._lacks_map(f'the map has a single place for images of {size[0]} x {size[1]}')
        logits = self.model.forward_head(head_input)
        return _Pass(logits, self._pre_logits(head_input, is_mixed), head_input, None if is_single else maps)

    def _split(self, maps: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the last map [N, h, w, D], and what shows the evidence: it, or [N, h, w, D + 1] with attention."""
        width = maps.shape[-1] // 2
        return (maps[..., :width], maps[..., width:]) if self.reads_attention else (maps, maps)

    def _pre_logits(self, head_input: Any, is_mixed: bool = False) -> Optional[torch.Tensor]:
        """Call the model's head once more on the same batch, where a head reads its pre-logits features [N, D]."""
        if self.uncertainty is None and not (is_mixed and self.projection is not None):
            return None
        with switched_off('track_running_stats', self.found.noisy):  # normalised as before, counted once
            return self.model.forward_head(head_input, pre_logits=True)

    def _output(
            self, result: _Pass, is_mixed: bool = False, seen: Optional[torch.Tensor] = None,
            mixing: Optional[Mixing] = None) -> ModelOutput:
        """Return what is read of a pass; constants where there is no map."""
        maps = result.maps
        logits, distilled = result.logits if isinstance(result.logits, tuple) else (result.logits, None)
        uncertainty = features = evidence = None
        if self.uncertainty is not None and result.pre_logits is not None:
            uncertainty = self.uncertainty(result.pre_logits)
        if self.projection is not None and is_mixed:
            distilled = self.projection(result.pre_logits)  # a teacher sees the mixed images alone
        if 'features' in self.fields:
            features = logits.new_zeros(len(logits), 1) if maps is None else self._split(maps)[0].mean((1, 2))
        if 'evidence' in self.fields and not is_mixed:
            find = attended_evidence if self.reads_attention else evidence_map
            evidence = logits.new_ones(len(logits), 1, 1) if maps is None else find(self._split(maps)[1], seen, mixing)
        return ModelOutput(logits, uncertainty, features, evidence, distilled)

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


def other_inputs(
        target: MixedTarget, passes_twice: bool, unmixes: bool) -> Tuple[Optional[torch.Tensor], Optional[Mixing]]:
    """Return `original` and `mixing` of SUMixModule's forward, at most one; ValueError if the target lacks it."""
    if passes_twice:
        if target.original is None:
            raise ValueError(
                "a second pass needs target.original, the unmixed images, got None: or original_pass 'none'")
        return target.original, None
    if not unmixes or not target.mixed:
        return None, None
    if target.mixing is None:
        raise ValueError(
            "to unmix, target.mask must be the mask that the images were mixed by, got None: give it, or use "
            "original_pass 'no-grad'")
    return None, target.mixing


@torch.no_grad()
def correct(
        model: nn.Module, mixed: torch.Tensor, target: MixedTarget, options: Optional[SUMixOptions] = None,
) -> torch.Tensor:
    """Return the shares [N] that a model would give the first images of a mixed batch, in [0, 1], float32.

    It makes the passes that the options ask for, in the mode that the model is in; `model.eval()` first leaves batch
    norm's statistics alone. Where the model has no feature map, the shares stay as they are by area, without a warning.

    Args:
        model: A timm model.
        mixed: Mixed images [N, C, H, W].
        target: The MixedTarget that came with them.
        options: How to correct; None: the defaults. The uncertainty term plays no part.

    TypeError if model wraps another, or lacks what the ratio needs; ValueError if target does, or cannot be unmixed.

        >>> mixed, target = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., num_classes=1000)(images, labels)
        >>> lam = correct(model.eval(), mixed, target)
    """
    options = options or SUMixOptions()
    ratio = options.create_ratio()
    module = SUMixModule(model, ratio, original_pass=options.resolved_pass, verbose=False)
    if not target.mixed or not ratio.needs:
        return target.lam
    module.prepare(mixed)
    inputs = other_inputs(target, options.resolved_pass != 'none', options.unmixes)
    mixed_output, original_output = module(mixed, *inputs)
    return ratio(mixed_output, original_output, target)
