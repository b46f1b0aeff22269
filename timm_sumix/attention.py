"""What a class token attends to in a model's last block: where, in what the head reads, an object is.

TransMix (https://arxiv.org/abs/2111.09833) reads it of the mixture alone. Here it is unmixed as a map is, and weights
the evidence of features, those of the middle block: nothing reads the last block's patches, so they are not trained.
"""
from typing import Any, List, Optional, Tuple

import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat

from .correction import evidence_map
from .maps import eval_mode, switched_off
from .region import Mixing


def reads_attention(model: Any, image: torch.Tensor) -> bool:
    """Whether pass_with_attention can be used of a model, by one image [1, C, H, W].

    So it is where the head reads a class token, and the values, weighted by what is found here, are the last block's.
    """
    attn: Any = getattr(getattr(model, 'blocks', [None])[-1], 'attn', None)
    embed = getattr(model, 'patch_embed', None)
    if getattr(model, 'global_pool', '') != 'token' or not hasattr(embed, 'dynamic_feat_size') or (
            not hasattr(attn, 'q_norm') or getattr(attn, 'num_kv_groups', 1) > 1 or len(model.blocks) < 2):
        return False
    returned: List[torch.Tensor] = []
    hook = getattr(attn, 'norm', attn.proj).register_forward_pre_hook(lambda _, inputs: returned.append(inputs[0]))
    with eval_mode(model), torch.no_grad():
        _, _, tokens = _pass(model, image)
        own = (_weights(model, tokens, image) @ _heads(attn, 2, model.blocks[-1].norm1(tokens))).flatten()
    hook.remove()
    return own.is_meta or torch.allclose(own, returned[0][:, 0].flatten(), rtol=1e-3, atol=1e-5)


def pass_with_attention(model: Any, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Pass images [N, C, H, W], and return what forward_head takes, and features and attention [N, h, w, D + 1].

    The latter are without gradient: normalised features of the middle block, and what the class token pays to each
    patch in the last block, the mean over its heads.
    """
    head_input, features, tokens = _pass(model, images)
    with torch.no_grad():
        attention = _weights(model, tokens, images)[:, :, 0, -features.shape[1]:].mean(1)
        features = F.layer_norm(features, features.shape[-1:])
        grid = model.patch_embed.dynamic_feat_size(images.shape[-2:])
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


def _weights(model: Any, tokens: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return what the class token pays to each token in the last block [N, heads, 1, T], of the tokens [N, T, D]."""
    attn, tokens = model.blocks[-1].attn, model.blocks[-1].norm1(tokens)
    query, keys = attn.q_norm(_heads(attn, 0, tokens[:, :1])), attn.k_norm(_heads(attn, 1, tokens))
    if getattr(model, 'rope', None) is not None:  # patches are rotated; the class token has no place
        with switched_off('training', (model.rope,)):  # in which some of them draw
            rope = model.rope.get_embed(shape=model.patch_embed.dynamic_feat_size(images.shape[-2:]))
        rope = rope[-1] if getattr(model, 'rope_mixed', False) else rope  # one for each block
        first, half = model.num_prefix_tokens, getattr(attn, 'rotate_half', False)
        keys = torch.cat([keys[:, :, :first], apply_rot_embed_cat(keys[:, :, first:], rope, half=half)], dim=2)
    return (query * attn.scale @ keys.transpose(-2, -1)).softmax(-1)


def _heads(attn: Any, part: int, tokens: torch.Tensor) -> torch.Tensor:
    """Return queries (part 0), keys or values [N, heads, T, d] of tokens [N, T, D]."""
    name = 'qkv'[part]
    if attn.qkv is None:
        projected = getattr(attn, f'{name}_proj')(tokens)
    else:
        bias = getattr(attn, f'{name}_bias', None) if attn.qkv.bias is None else attn.qkv.bias.chunk(3)[part]
        projected = F.linear(tokens, attn.qkv.weight.chunk(3)[part], bias)
    return projected.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
