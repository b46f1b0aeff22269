"""What a pass is given: the model and the batch, checked before it is made."""
from typing import Optional

import torch
import torch.nn as nn

from .correction import Ratio
from .maps import find_map
from .shown import Mixing
from .target import MixedTarget


def check_model(
        model: nn.Module, ratio: Ratio, original_pass: str, has_term: bool = False, has_head: bool = False) -> None:
    """Raise TypeError for what wraps a model or one that lacks parts, ValueError for logits that cannot be unmixed."""
    name = type(model).__name__
    if hasattr(model, '_orig_mod'):
        raise TypeError(f'model must be the model itself, got one compiled ({name}): use task.compile()')
    if not isinstance(model, nn.Module) or hasattr(model, 'get_eval_model'):
        raise TypeError(f'model must be a timm model, got {name} (of a task, give task.get_eval_model())')
    if isinstance(getattr(model, 'module', None), nn.Module) and not hasattr(model, 'forward_features'):
        raise TypeError(f'model must be the model itself, got {name} around it: give its .module')
    needs_logits = 'logits' in ratio.reads and 'logits' not in ratio.may_lack
    unmixes_logits = original_pass == 'none' and (has_term or needs_logits)
    needs_map = not {'features', 'evidence'}.isdisjoint({*ratio.reads, *ratio.reads_mixed}.difference(ratio.may_lack))
    missing = [part for part in ('forward_features', 'forward_head') if not hasattr(model, part)]
    if missing and (has_head or unmixes_logits or needs_map):
        raise TypeError(
            f"a model that is asked for features must have forward_features and forward_head, {name} lacks {missing}: "
            "use ratio 'similarity' with original_pass 'no-grad' (and with a term, uncertainty 'logits')")
    if unmixes_logits and not find_map(model).head_reads_map:
        what, passes = ('the uncertainty term', 'grad') if has_term else (f'ratio {ratio.name!r}', 'no-grad')
        raise ValueError(
            f'{what} needs logits of the unmixed images, which cannot be unmixed where there is no feature map, or the '
            f'head reads more than it (a class token, for example), as in {name}: use original_pass {passes!r}, '
            "another global_pool of the model, or ratio 'combined' without a term")


def check_compilable(model: nn.Module) -> None:
    """Raise ValueError for a model that does more when called than what is compiled of it."""
    hooks = (model._forward_hooks, model._forward_pre_hooks, model._backward_hooks, model._backward_pre_hooks)
    if any(hooks) or hasattr(model, 'forward_features') and not find_map(model).is_plain:
        raise ValueError(
            f'{type(model).__name__} has hooks or a forward of its own, which the compiled task would leave out: call '
            'model.compile() instead, before the task is made')


def reads_map(ratio: Ratio) -> bool:
    """Whether a ratio reads the model's last feature map."""
    return not {'features', 'evidence'}.isdisjoint({*ratio.reads, *ratio.reads_mixed})


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
