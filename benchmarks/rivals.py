"""Other published ways to label a mixed sample, re-derived from their papers in a few lines each, and the truth.

A rule takes (model, mixed images, target, masks of the objects in the originals) and returns shares [N]. Each makes the
passes that it needs itself, without gradient, in the mode that the model is in.
"""
from typing import Callable, Dict

import torch

from timm_sumix import MixedTarget

from .placed import true_lam


def class_activation(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return each image's class activation map for its label, scaled to [0, 1] in each image [N, h, w].

    Learning Deep Features for Discriminative Localization, https://arxiv.org/abs/1512.04150
    """
    maps = model.forward_features(images)
    places = maps.flatten(2).transpose(1, 2)
    logits = model.forward_head(places.reshape(-1, places.shape[-1], 1, 1)).view(*places.shape[:2], -1)
    own = logits.gather(2, labels.view(-1, 1, 1).expand(-1, places.shape[1], 1)).squeeze(2)
    low, high = own.amin(1, keepdim=True), own.amax(1, keepdim=True)
    return ((own - low) / (high - low).clamp(min=1e-6)).view(-1, *maps.shape[-2:])


def visible_share(evidence: torch.Tensor, target: MixedTarget) -> torch.Tensor:
    """Return the first image's share of what is shown of both images' evidence [N, h, w], each relative to its sum."""
    relative = evidence / evidence.sum((1, 2), keepdim=True).clamp(min=1e-6)
    first, second = target.shown(tuple(evidence.shape[-2:]))
    a, b = (relative * first).sum((1, 2)), (target.partner(relative) * second).sum((1, 2))
    return torch.where(a + b > 1e-6, a / (a + b).clamp(min=1e-6), target.lam)


def _snapmix(model, mixed, target, masks):
    return visible_share(class_activation(model, target.original, target.labels), target)


def _lumix(model, mixed, target, masks):
    # 0.5, 0.4 and 0.1 of area, prediction and chance: the paper's weights are not known to us for small images
    prediction = model(mixed).softmax(-1)
    a, b = (prediction.gather(1, labels.unsqueeze(1)).squeeze(1) for labels in (target.labels, target.partner_labels))
    return 0.5 * target.lam + 0.4 * a / (a + b).clamp(min=1e-6) + 0.1 * torch.rand_like(target.lam)


def _pass_only(model, mixed, target, masks):
    model(target.original)  # batch norm sees the originals, as it does with every corrected label
    return target.lam


def _true(model, mixed, target, masks):
    share = true_lam(masks, target.partner(masks), *target.shown(tuple(masks.shape[-2:])))
    model(target.original)
    return torch.where(share.isnan(), target.lam, share)


RULES: Dict[str, Callable[..., torch.Tensor]] = {
    'snapmix': _snapmix,  # https://arxiv.org/abs/2012.04846; labels sum to 1 here, not in the paper
    'lumix': _lumix,  # https://arxiv.org/abs/2211.15846
    'pass': _pass_only,
    'true': _true,
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
