"""Ways to label a mixed image: the truth, and published rivals.

A labeller takes (model, mixed images [N, 3, S, S], their MixedTarget, masks of the objects in the unmixed images
[N, S, S]) and returns shares [N]. It makes the passes that it needs itself, without gradient, in the mode
that the model is in.

The rivals are re-derived in a few lines each; they are not their authors' code:
SnapMix: https://arxiv.org/abs/2012.04846; here labels sum to 1, in the paper they do not.
TransMix: Attend to Mix for Vision Transformers, https://arxiv.org/abs/2111.09833; the attention's share alone, as in
the paper's equation, where the authors' code takes its mean with the area.
Class activation maps: Learning Deep Features for Discriminative Localization, https://arxiv.org/abs/1512.04150
"""
from typing import Callable, Dict

import torch

from timm_sumix import MixedTarget
from timm_sumix.correction.evidence import QUARTILE
from timm_sumix.maps import features_by_place

from .controls import exchanged
from .truth import true_shares

Labeller = Callable[[torch.nn.Module, torch.Tensor, MixedTarget, torch.Tensor], torch.Tensor]


def class_activation(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return each image's class activation map for its label, scaled to [0, 1] in each image [N, h, w]; of a CNN."""
    places = model.forward_features(images).permute(0, 2, 3, 1)
    logits = model.forward_head(places.reshape(-1, places.shape[-1], 1, 1)).view(*places.shape[:3], -1)
    activation = logits.gather(3, labels.view(-1, 1, 1, 1).expand(-1, *logits.shape[1:3], 1)).squeeze(3)
    low, high = activation.amin((1, 2), keepdim=True), activation.amax((1, 2), keepdim=True)
    return (activation - low) / (high - low).clamp(min=1e-6)


def visible_share(evidence: torch.Tensor, target: MixedTarget) -> torch.Tensor:
    """Return the first image's share of the visible evidence [N], from evidence [N, h, w] relative to its own sum."""
    relative = evidence / evidence.sum((1, 2), keepdim=True).clamp(min=1e-6)
    first, second = target.visible_fraction((evidence.shape[-2], evidence.shape[-1]))
    a, b = (relative * first).sum((1, 2)), (target.partner(relative) * second).sum((1, 2))
    return torch.where(a + b > 1e-6, a / (a + b).clamp(min=1e-6), target.lam)


def snapmix(model, mixed, target, masks):
    """Return shares of the class activation maps of the unmixed images."""
    return visible_share(class_activation(model, target.original, target.labels), target)


def evidence_of_mixture(model, mixed, target, masks):
    """Return the first image's part of the evidence in the mixed image itself, as TransMix does by attention."""
    maps = model.forward_features(mixed)
    features = features_by_place(model, maps, (mixed.shape[-2], mixed.shape[-1])).float()
    deviation, mean = torch.std_mean(features, dim=(1, 2), correction=0, keepdim=True)
    weights = (features - (mean - QUARTILE * deviation)).square().sum(-1)
    first, _ = target.visible_fraction((weights.shape[1], weights.shape[2]))
    lam = (weights * first).sum((1, 2)) / weights.sum((1, 2)).clamp(min=1e-6)
    return lam if target.partner_mask is None else (lam + target.lam) / 2


def attention_labellers(model: torch.nn.Module) -> Dict[str, Labeller]:
    """Return the labellers that read a VisionTransformer's attention: of the mixed image, and of the unmixed ones.

    It is what the class token pays to each patch in the last block.
    """
    seen = {}
    model.blocks[-1].attn.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0].detach()))

    @torch.no_grad()
    def attend(images):
        model(images)
        x, attention = seen.pop('x'), model.blocks[-1].attn
        shape = (*x.shape[:2], 3, attention.num_heads, -1)
        q, k, _ = attention.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (attention.q_norm(q) * attention.scale @ attention.k_norm(k).transpose(-2, -1)).softmax(-1)
        return weights.mean(1)[:, 0, model.num_prefix_tokens:].unflatten(1, model.patch_embed.grid_size)

    def transmix(_, mixed, target, masks):
        weights = attend(mixed)
        first, _ = target.visible_fraction((weights.shape[-2], weights.shape[-1]))
        return (weights * first).sum((1, 2)) / weights.sum((1, 2))

    def of_originals(_, mixed, target, masks):
        return visible_share(attend(target.original), target)

    return {'transmix': transmix, 'attention of originals': of_originals}


def _true(model, mixed, target, masks):
    share = true_shares(masks, target)
    return torch.where(share.isnan(), target.lam, share)


def _true_shuffled(model, mixed, target, masks):
    return exchanged(_true(model, mixed, target, masks), target.area)


LABELLERS: Dict[str, Labeller] = {
    'snapmix': snapmix,
    'true': _true,
    'true, shuffled': _true_shuffled,
    'evidence of the mixture': evidence_of_mixture,
}
