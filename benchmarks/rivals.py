"""Other ways to label a mixed sample: published ones, re-derived in a few lines each; those tried here; and the truth.

A rule takes (model, mixed images, target, masks of the objects in the originals) and returns shares [N]. Each makes the
passes that it needs itself, without gradient, in the mode that the model is in.
"""
from typing import Callable, Dict

import torch
import torch.nn.functional as F

from timm_sumix import MixedTarget
from timm_sumix.correction import create_ratio, evidence_map, visible_evidence
from timm_sumix.passes import SUMixModule

from .placed import true_lam, visible


def class_activation(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return each image's class activation map for its label, scaled to [0, 1] in each image [N, h, w].

    Learning Deep Features for Discriminative Localization, https://arxiv.org/abs/1512.04150
    """
    logits = logits_by_place(model, images)
    index = labels.view(-1, 1, 1, 1).expand(-1, *logits.shape[1:3], 1)
    return _to_unit_range(logits.gather(3, index).squeeze(3))


def logits_by_place(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return what a CNN's classifier says of the features at each place [N, h, w, C]."""
    maps = model.forward_features(images)
    places = maps.permute(0, 2, 3, 1)
    return model.forward_head(places.reshape(-1, places.shape[-1], 1, 1)).view(*places.shape[:3], -1)


def _to_unit_range(evidence: torch.Tensor) -> torch.Tensor:
    low, high = evidence.amin((1, 2), keepdim=True), evidence.amax((1, 2), keepdim=True)
    return (evidence - low) / (high - low).clamp(min=1e-6)


def visible_share(evidence: torch.Tensor, target: MixedTarget) -> torch.Tensor:
    """Return the first image's share of what is shown of both images' evidence [N, h, w], each relative to its sum."""
    relative = evidence / evidence.sum((1, 2), keepdim=True).clamp(min=1e-6)
    first, second = target.visible_fraction(tuple(evidence.shape[-2:]))
    a, b = (relative * first).sum((1, 2)), (target.partner(relative) * second).sum((1, 2))
    return torch.where(a + b > 1e-6, a / (a + b).clamp(min=1e-6), target.lam)


def _snapmix(model, mixed, target, masks):
    return visible_share(class_activation(model, target.original, target.labels), target)


def _lumix(model, mixed, target, masks):
    # 0.5, 0.4 and 0.1 of area, prediction and chance: the paper's weights are not known to us for small images
    prediction = model(mixed).softmax(-1)
    a, b = (prediction.gather(1, labels.unsqueeze(1)).squeeze(1) for labels in (target.labels, target.partner_labels))
    with torch.random.fork_rng(devices=[]):  # boxes and batches are drawn as they are without this label
        chance = torch.rand_like(target.lam)
    return 0.5 * target.lam + 0.4 * a / (a + b).clamp(min=1e-6) + 0.1 * chance


def _pass_only(model, mixed, target, masks):
    model(target.original)  # batch norm sees the originals, as it does with every corrected label
    return target.lam


def _true(model, mixed, target, masks):
    share = true_lam(masks, target.partner(masks), *target.visible_fraction(tuple(masks.shape[-2:])))
    model(target.original)
    return torch.where(share.isnan(), target.lam, share)


def _fade(target, shown):
    """Let the target fade to equal probabilities where less than one image's worth is shown of both together [N]."""
    weight, dense = shown.clamp(max=1).unsqueeze(1), target.soft_target
    target.soft_target = lambda lam=None: weight * dense(lam) + (1. - weight) / target.num_classes


def _true_faded(model, mixed, target, masks):
    shown = target.visible_fraction(tuple(masks.shape[-2:]))
    _fade(target, sum(visible(own, part) for own, part in zip((masks, target.partner(masks)), shown)))
    return _true(model, mixed, target, masks)


def _evidence_faded(model, mixed, target, masks):
    mixed, original = SUMixModule(model, features=True, evidence=True)(mixed, target.original)
    _fade(target, sum(visible_evidence(original.evidence, target)))
    return create_ratio('evidence')(mixed, original, target)


def _strength(model, images):
    return evidence_map(model, model.forward_features(images), tuple(images.shape[-2:]))


def _strength_and_class(model, mixed, target, masks):
    evidence = _to_unit_range(_strength(model, target.original)) ** 3
    return visible_share(evidence * class_activation(model, target.original, target.labels), target)


def _logits_norm(model, mixed, target, masks):
    logits = logits_by_place(model, target.original)
    norm = (logits - logits.mean(-1, keepdim=True)).norm(dim=-1)
    return visible_share(_to_unit_range(norm) ** 3, target)


def _local_cosine(model, mixed, target, masks):
    # how like each image the mixture's features are, place by place; this one needs no mask
    maps, mixed_maps = model.forward_features(target.original), model.forward_features(mixed)
    evidence = _to_unit_range(_strength(model, target.original)) ** 3
    a, b = (
        (own * F.cosine_similarity(mixed_maps, features, dim=1)).sum((1, 2)) / own.sum((1, 2)).clamp(min=1e-6)
        for own, features in ((evidence, maps), (target.partner(evidence), target.partner(maps))))
    return a / (a + b).clamp(min=1e-6)


# tried on the way to ratio 'evidence', for CNNs
TRIED: Dict[str, Callable[..., torch.Tensor]] = {
    'class activation ^ 3': lambda model, mixed, target, masks: visible_share(
        class_activation(model, target.original, target.labels) ** 3, target),
    'norm of logits by place ^ 3': _logits_norm,
    'strength ^ 3 x class activation': _strength_and_class,
    'cosine by place': _local_cosine,
}
RULES: Dict[str, Callable[..., torch.Tensor]] = {
    'snapmix': _snapmix,  # https://arxiv.org/abs/2012.04846; labels sum to 1 here, not in the paper
    'lumix': _lumix,  # https://arxiv.org/abs/2211.15846
    'pass': _pass_only,
    'true': _true,
    'true, faded': _true_faded,
    'evidence, faded': _evidence_faded,
}


class AttentionOfClassToken:
    """Attention that the class token of a timm VisionTransformer pays to each patch in its last block [N, h, w].

    TransMix: Attend to Mix for Vision Transformers, https://arxiv.org/abs/2111.09833

    Args:
        model: A VisionTransformer with a class token.
    """

    def __init__(self, model: torch.nn.Module):
        self.model = model
        self.found = None
        model.blocks[-1].attn.register_forward_pre_hook(self._keep)

    def _keep(self, attention, inputs):
        x = inputs[0]
        shape = (*x.shape[:2], 3, attention.num_heads, -1)
        q, k, _ = attention.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (attention.q_norm(q) * attention.scale @ attention.k_norm(k).transpose(-2, -1)).softmax(-1)
        self.found = weights.mean(1)[:, 0, self.model.num_prefix_tokens:]

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the attention by place for images [N, 3, H, W]."""
        parts = []
        for batch in images.split(500):
            self.model(batch)
            parts.append(self.found.unflatten(1, self.model.patch_embed.grid_size))
        return torch.cat(parts)
