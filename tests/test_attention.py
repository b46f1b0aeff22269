"""What a class token attends to, against the model's own attention as loops, and the evidence that follows it."""
import inspect
import itertools
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import make_task, small_model
from timm.models.eva import Eva
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torch import nn

from timm_sumix import SUMixMixup, SUMixOptions, correct
from timm_sumix.attention import pass_with_attention, reads_attention
from timm_sumix.correction import evidence_map, unmix


class _Shifted(VisionTransformer):
    def forward_features(self, x, *args, **kwargs):
        return super().forward_features(x, *args, **kwargs) * 0.1 + 3.


NEW = {'num_kv_heads', 'rope_jitter_coords'} - set(inspect.signature(Eva.__init__).parameters)  # than this timm
_small = partial(small_model, embed_dim=48, num_heads=3)
_vit = partial(_small, 'vit_tiny_patch16_224', img_size=(64, 48), depth=3)
_eva = partial(_small, 'eva02_tiny_patch14_224', img_size=56, depth=3, global_pool='token')
ATTENDING = {
    'vit': _vit, 'two blocks': partial(_vit, depth=2), 'q_norm': partial(_vit, qk_norm=True),
    'distilled': partial(_small, 'deit_tiny_distilled_patch16_224', img_size=(64, 48), depth=4),
    'registers': partial(_vit, reg_tokens=4), 'rope': _eva, 'another rope': partial(_eva, attn_type='rope'),
    'rope, registers, separate projections': partial(_eva, num_reg_tokens=2, qkv_fused=False),
    'mixed rope': partial(_small, 'vit_small_patch16_rope_mixed_224', img_size=64, depth=3)}
OTHERS = {  # no class token that the head reads, attention of another kind, or none
    'average': partial(_vit, global_pool='avg'), 'map': partial(_vit, global_pool='map', class_token=False),
    'biases by position': partial(_small, 'beit_base_patch16_224', img_size=64, depth=2, global_pool='token'),
    'one block': partial(_vit, depth=1), 'norms behind': partial(_vit, block_fn=ResPostBlock),
    'relative positions': partial(_small, 'vit_relpos_base_patch16_cls_224', img_size=64, depth=2),
    'a forward_features of its own': partial(_Shifted, 64, embed_dim=48, depth=3, num_heads=3, num_classes=10),
    'grouped queries': partial(_eva, attn_type='rope', qkv_fused=False, num_kv_heads=1),
    'cait': partial(_small, 'cait_xxs24_224', img_size=64, depth=2),
    'xcit': partial(small_model, 'xcit_nano_12_p16_224', img_size=64), 'resnet': small_model}


def _random(create):
    """Return a model in eval mode whose parameters all differ from their beginnings, biases and norms too."""
    if NEW & set(getattr(create, 'keywords', ())):
        pytest.skip('this timm has none')
    torch.manual_seed(0)
    model = create().eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    size = getattr(getattr(model, 'patch_embed', None), 'img_size', None) or (64, 64)
    return model, torch.randn(4, 3, *size)


@pytest.mark.parametrize('name', ATTENDING)
def test_attention_is_the_models_own_computed_token_by_token(name, monkeypatch):
    model, images = _random(ATTENDING[name])
    assert reads_attention(model)
    calls = []  # what the first query pays to each key

    def attend(query, key, value, **_):
        count, scale = key.shape[2], math.sqrt(key.shape[-1])
        paid = torch.zeros(len(query), count)
        for i, head in itertools.product(*map(range, query.shape[:2])):
            scores = [math.exp(float(query[i, head, 0] @ key[i, head, t]) / scale) for t in range(count)]
            paid[i] += torch.tensor(scores) / sum(scores) / query.shape[1]
        calls.append(paid)
        return (query @ key.transpose(-2, -1) / scale).softmax(-1) @ value

    monkeypatch.setattr(F, 'scaled_dot_product_attention', attend)
    outputs = []
    for block in model.blocks:
        block.register_forward_hook(lambda *parts: outputs.append(parts[-1]))
    tokens = model.forward_features(images).detach()
    paid, middle = calls[-1], outputs[len(model.blocks) // 2 - 1]
    monkeypatch.undo()
    head_input, attended = pass_with_attention(model, images)
    assert not attended.requires_grad and head_input.requires_grad
    torch.testing.assert_close(head_input, tokens)
    patches = attended.flatten(1, 2)
    torch.testing.assert_close(patches[..., -1], paid[:, -patches.shape[1]:], rtol=0, atol=1e-5)
    expected = F.layer_norm(middle[:, -patches.shape[1]:], middle.shape[-1:])
    torch.testing.assert_close(patches[..., :-1], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('name', OTHERS)
def test_other_models_keep_the_evidence_of_their_last_map(name):
    model, images = _random(OTHERS[name])
    assert not reads_attention(model)
    task = make_task(model, ratio='evidence')
    task(images, torch.arange(4))['loss'].backward()
    assert not task.get_trainable_module().reads_attention


@pytest.mark.parametrize('name', ['vit', 'registers', 'rope'])
@pytest.mark.parametrize('mode', ['pair', 'elem'])
def test_attention_is_unmixed_as_a_map_and_weights_the_evidence_of_the_middle_block(name, mode):
    model, images = _random(ATTENDING[name])
    mixed, target = SUMixMixup(0., 1., mode=mode, num_classes=10)(images, torch.arange(4))
    for made, batch in (('none', mixed), ('no-grad', images)):
        module = make_task(model, ratio='evidence', original_pass=made).eval()
        module.prepare(mixed)
        with torch.no_grad():
            inputs = (None, target.mixing) if made == 'none' else (images,)
            _, found = module.get_trainable_module()(mixed, *inputs)
            _, attended = pass_with_attention(model, batch)
        attended, seen = unmix(attended, target.mixing) if made == 'none' else (attended, None)
        weighted = evidence_map(attended[..., :-1], seen, target.mixing if made == 'none' else None) * attended[..., -1]
        torch.testing.assert_close(found.evidence, weighted)
    lam = correct(model, mixed, target, SUMixOptions((1., 0., 0.)))
    assert ((lam - target.lam).abs()[(target.lam > 0) & (target.lam < 1)] > 1e-5).all()


@pytest.mark.parametrize('name', ['q_norm', 'registers', 'distilled', 'rope'])
@pytest.mark.parametrize('how', ['plain', 'compiled', 'autocast', 'checkpointing'])
def test_a_step_by_attention_is_one_forward_and_trains(name, how):
    model, images = _random(ATTENDING[name])
    model.train().set_grad_checkpointing(how == 'checkpointing')
    mixed, target = SUMixMixup(0., 1., mode='pair', num_classes=10)(images, torch.arange(4))
    expected = make_task(model, ratio='combined')(mixed, target)['lam']
    task, stems = make_task(model, ratio='combined'), []
    with torch.autocast('cpu', torch.bfloat16, enabled=how == 'autocast'):
        task.prepare(mixed)
    model.patch_embed.register_forward_pre_hook(lambda *_: stems.append(1))
    if how == 'compiled':
        torch._dynamo.reset()
        task.compile(backend='eager', fullgraph=True)
    with torch.autocast('cpu', torch.bfloat16, enabled=how == 'autocast'):
        result = task(mixed, target)
    result['loss'].backward()
    assert stems == [1] and task.get_trainable_module().reads_attention
    torch.testing.assert_close(result['lam'], expected, rtol=0., atol=0.05 if how == 'autocast' else 1e-5)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_one_line_says_what_a_transformer_gives(caplog):
    caplog.set_level('INFO')
    for options in ({}, {'ratio': 'visible'}):
        caplog.clear()
        task = make_task(_vit(), verbose=True, **options)
        for _ in range(2):
            task(torch.randn(2, 3, 64, 48), torch.arange(2))
        line, = (text for text in caplog.messages if 'class token' in text)
        assert line.endswith('Transformer: labels follow the evidence, weighted by what the class token attends to.')


def test_a_wrapped_layer_is_called_and_half_precision_reads_attention_too():
    model, images = _random(_vit)
    attn, (_, before) = model.blocks[-1].attn, pass_with_attention(model, images)
    attn.qkv = nn.Sequential(attn.qkv)  # as adapters wrap it, without a weight
    torch.testing.assert_close(pass_with_attention(model, images)[1], before)
    task = make_task(model.bfloat16(), ratio='evidence')
    task(images.bfloat16(), torch.arange(4))['loss'].backward()
    assert task.get_trainable_module().reads_attention


def test_a_rope_that_draws_in_training_is_read_without_drawing():
    model, images = _random(partial(
        _small, 'vit_small_patch16_dinov3', img_size=64, depth=3, global_pool='token', rope_jitter_coords=2.))
    states = []
    for forward in (model.train().forward_features, partial(pass_with_attention, model)):
        torch.manual_seed(0)
        forward(images)
        states.append(torch.get_rng_state())
    assert torch.equal(*states) and model.rope.training
