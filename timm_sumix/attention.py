"""What a class token attends to in a model's last block: where, in what the head reads, an object is.

TransMix (https://arxiv.org/abs/2111.09833) reads it of the mixture alone. Here it is unmixed as a map is, and weights
the evidence of features, those of the middle block: nothing reads the last block's patches, so they are not trained.
"""
from typing import Any, Optional, Tuple

import torch
import torch.nn.functional as F
from timm.layers import Attention, AttentionRope, apply_rot_embed_cat
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer

from .correction import evidence_map
from .maps import switched_off
from .region import Mixing


def reads_attention(model: Any) -> bool:
    """Whether the head reads the class token of timm's VisionTransformer or Eva, and the last block is timm's own."""
    passes = [getattr(model, name, None) for name in ('forward_features', 'forward_intermediates')]
    functions = [getattr(method, '__func__', None) for method in passes]
    if not any(functions == [own.forward_features, own.forward_intermediates] for own in (VisionTransformer, Eva)):
        return False  # a subclass may do more
    attn = getattr(model.blocks[-1], 'attn', None)
    return (
        model.global_pool == 'token' and len(model.blocks) > 1 and type(model.blocks[-1]) in (Block, EvaBlock)
        and type(attn) in (Attention, AttentionRope, EvaAttention) and getattr(attn, 'num_kv_groups', 1) == 1)


def pass_with_attention(model: Any, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Pass images [N, C, H, W], and return what forward_head takes, and features and attention [N, h, w, D + 1].

    The latter are without gradient: normalised features of the middle block, and what the class token pays to each
    patch in the last block, the mean over its heads.
    """
    head_input, features, tokens = _pass(model, images)
    with torch.no_grad():
        grid = model.patch_embed.dynamic_feat_size(images.shape[-2:])
        attention = _weights(model, tokens, grid)[:, :, 0, -features.shape[1]:].mean(1)
        features = F.layer_norm(features, features.shape[-1:])
        return head_input, torch.cat([features, attention.unsqueeze(-1)], dim=-1).unflatten(1, grid)


def attended_evidence(
        attended: torch.Tensor, seen: Optional[torch.Tensor] = None, mixing: Optional[Mixing] = None) -> torch.Tensor:
    """Return the evidence [N, h, w] of features and attention [N, h, w, D + 1]; the rest as evidence_map has it."""
    return evidence_map(attended[..., :-1], seen, mixing) * attended[..., -1].float()


def _pass(model: Any, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what forward_head takes, patches of the middle block [N, h * w, D], and what the last reads [N, T, D]."""
    depth = len(model.blocks)
    head_input, kept = model.forward_intermediates(
        images, indices=sorted({depth // 2 - 1, depth - 2}), return_prefix_tokens=True, output_fmt='NLC')
    patches, prefix = kept[-1]
    return head_input, kept[0][0].detach(), torch.cat([prefix, patches], dim=1).detach()


def _weights(model: Any, tokens: torch.Tensor, grid: Tuple[int, int]) -> torch.Tensor:
    """Return what the class token pays to each token in the last block [N, heads, 1, T], of the tokens [N, T, D]."""
    attn, tokens = model.blocks[-1].attn, model.blocks[-1].norm1(tokens)
    if attn.qkv is None:
        query, keys = attn.q_proj(tokens[:, :1]), attn.k_proj(tokens)
    else:  # all three, since the layer may be wrapped
        biases = () if getattr(attn, 'q_bias', None) is None else (attn.q_bias, attn.k_bias, attn.v_bias)
        query, keys, _ = (attn.qkv(tokens) + torch.cat(biases) if biases else attn.qkv(tokens)).chunk(3, dim=-1)
    query, keys = (part.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for part in (query[:, :1], keys))
    query, keys = attn.q_norm(query), attn.k_norm(keys)
    if getattr(model, 'rope', None) is not None:  # patches are rotated; the class token has no place
        with switched_off('training', (model.rope,)):  # in which some of them draw
            rope = model.rope.get_embed(shape=grid)
        rope = rope[-1] if getattr(model, 'rope_mixed', False) else rope  # one for each block
        first, half = model.num_prefix_tokens, getattr(attn, 'rotate_half', False)
        keys = torch.cat([keys[:, :, :first], apply_rot_embed_cat(keys[:, :, first:], rope, half=half)], dim=2)
    return (query * attn.scale @ keys.transpose(-2, -1)).softmax(-1)
