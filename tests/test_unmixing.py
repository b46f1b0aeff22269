"""Unmixing: the maps of the unmixed images from those of the mixed ones, and all that follows from them in one pass."""
import copy
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from helpers import make_task, random_images, small_model
from torch import nn

from timm_sumix import Policy, SUMixMixup, SUMixOptions, correct
from timm_sumix.attention import reads_attention
from timm_sumix.correction import RATIOS, evidence_map, unmix
from timm_sumix.maps import features_by_place
from timm_sumix.mixing import MODES
from timm_sumix.mixing.draws import Part
from timm_sumix.mixing.policies import POLICIES
from timm_sumix.region import Mixing

ONE_PASS = [ratio for ratio in RATIOS if ratio != 'released']
GRID, CELL = (3, 2), 4  # cells, and pixels a cell has on either side
SIZE = (GRID[0] * CELL, GRID[1] * CELL)
_vit = partial(small_model, 'test_vit', img_size=64)
# The maps

def _cells(mask, i):
    """Return the means over cells of image i's mask, of masks [1 or N, 1, H or 1, W or 1]: one for all, or for each."""
    own = mask[i % len(mask), 0].float().expand(SIZE)
    return own.reshape(GRID[0], CELL, GRID[1], CELL).mean((1, 3))


def _reference_unmix(maps, i, k, mixing):
    """Return the map of image i and what is known of it, k being a mixed image that has it for a partner, or None."""
    first, rest = _cells(mixing.mask, i), torch.zeros(GRID)
    if k is not None:
        shown = _cells(mixing.mask, k)
        second = 1. - shown if mixing.partner_mask is None else _cells(mixing.partner_mask, k)
        if ((shown + second - 1.).abs() < 1e-3).all():  # else the partner is not at its place
            rest = second.minimum(1. - first)
    known = first + rest
    seen = first[..., None] * maps[i] + (0. if k is None else rest[..., None] * maps[k])
    mean = seen.sum((0, 1)) / known.sum().clamp(min=1e-6)
    return seen + (1. - known)[..., None] * mean, known


def _assert_unmixed(mixing):
    """Compare all maps with the reference, and return what is known."""
    maps = torch.randn(mixing.size, *GRID, 5)
    found, known = unmix(maps, mixing)
    index = list(range(mixing.size))[::-1] if mixing.index is None else mixing.index.tolist()
    for i, k in enumerate(mixing.as_partner(torch.arange(1, mixing.size + 1)).tolist()):
        assert index[k - 1] == i if k else i not in index
        expected, seen = _reference_unmix(maps, i, k - 1 if k else None, mixing)
        torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(torch.ones(GRID) if known is None else known[i], seen, rtol=0, atol=1e-5)
        # what is not mixed is as it was to the last bit
        assert not _cells(mixing.mask, i).eq(1.).all() or torch.equal(found[i], maps[i])
    return known


@pytest.mark.parametrize('count', [1, 2, 5, 6])
@pytest.mark.parametrize('prob', [1., 0.5])
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('policy', [*POLICIES, list(POLICIES)], ids=str)
def test_maps_are_unmixed_place_by_place(policy, mode, prob, count):
    mixup = SUMixMixup(policy=policy, mode=mode, prob=prob, num_classes=8)
    for _ in range(4):
        _, target = mixup(torch.rand(count, 3, *SIZE), torch.arange(count))
        if target.mixed:
            assert (_assert_unmixed(target.mixing) is None) == target.mixing.complementary


@pytest.mark.parametrize('index', [[1, 2, 3, 4, 0], [3, 3, 0, 0, 1], [2, 2, 2, 2, 2]], ids=str)
@pytest.mark.parametrize('soft', [False, True])
@pytest.mark.parametrize('whole', [False, True])
def test_partners_may_be_any_and_who_is_nobodys_is_known_by_its_own_mixture_alone(index, soft, whole):
    mask = torch.rand(5, 1, *SIZE)
    mask = mask if soft else mask < torch.tensor([0., 0.3, 0.6, 0.9, 1.]).view(-1, 1, 1, 1)
    partner_mask = 1. - mask.float()
    partner_mask[2:4] = partner_mask[2:4].mean((1, 2, 3), keepdim=True)  # as ResizeMix shows them
    _assert_unmixed(Mixing(5, mask, partner_mask if whole else None, torch.tensor(index)))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('mode', MODES)
def test_maps_keep_their_dtype_and_gradient(mode, dtype):
    _, target = SUMixMixup(policy='resizemix', mode=mode, num_classes=8)(torch.rand(4, 3, *SIZE), torch.arange(4))
    maps = torch.randn(4, *GRID, 5, dtype=dtype, requires_grad=True)
    found, known = unmix(maps, target.mixing)
    found.float().sum().backward()
    assert found.dtype == dtype and maps.grad.isfinite().all() and known.dtype == torch.float32


# A model whose places do not see each other

class _Local(nn.Module):
    """Patches of 8 x 8 pixels, each by itself: the map of a mixture holds, cell by cell, that of the images."""
    num_classes, num_features, num_prefix_tokens = 10, 12, 0
    pretrained_cfg = {'input_size': (3, 32, 32)}
    feature_info = [{'reduction': 8}]

    def __init__(self, layout='NCHW'):
        super().__init__()
        self.layout = layout
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 8, stride=8), nn.ReLU(), nn.Conv2d(16, 12, 1), nn.ReLU())
        self.hidden, self.fc = nn.Linear(12, 12), nn.Linear(12, 10)

    def forward_features(self, x):
        x = self.stem(x)
        return x if self.layout == 'NCHW' else x.permute(0, 2, 3, 1) if self.layout == 'NHWC' else x.flatten(2).mT

    def forward_head(self, x, pre_logits=False):
        x = self.hidden(x.mean({'NCHW': (2, 3), 'NHWC': (1, 2), 'tokens': 1}[self.layout])).tanh()
        return x if pre_logits else self.fc(x)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


@dataclass(frozen=True)
class _Cells(Policy):
    """Whole cells of 8 x 8 pixels at random."""

    def draw(self, count, x, rows=None):
        return torch.rand(count, 1, 4, 4) < 0.5

    def mask(self, params, x):
        return params.repeat_interleave(8, 2).repeat_interleave(8, 3), params.float().mean((1, 2, 3))


def _own(mixed, original, target):
    parts = mixed.logits - original.logits, mixed.features - original.features, original.evidence
    return (target.lam + sum(part.flatten(1).norm(dim=1) for part in parts).tanh()) / 2


@pytest.mark.parametrize('layout', ['NCHW', 'NHWC', 'tokens'])
@pytest.mark.parametrize('mode', ['pair', 'batch'])
@pytest.mark.parametrize('ratio', [*ONE_PASS, _own], ids=lambda ratio: getattr(ratio, '__name__', ratio))
def test_without_a_view_of_the_other_image_one_pass_gives_labels_term_and_gradient_of_two(ratio, mode, layout):
    model, found = _Local(layout), []
    for made in ('none', 'grad', 'no-grad'):
        torch.manual_seed(1)
        task = make_task(copy.deepcopy(model), mode, {'policy': _Cells()}, ratio=ratio, gamma=0.5, original_pass=made)
        mixed, target = task.mixup(*random_images(7))
        result = task(mixed, target)
        result['loss'].backward()
        alone = SUMixOptions(ratio, original_pass='none' if made == 'none' or ratio == 'area' else 'no-grad')
        gradient = torch.cat([parameter.grad.flatten() for parameter in task.get_trainable_module().parameters()])
        found.append((
            result['lam'], correct(model, mixed, target, alone), result['uncertainty'], result['loss'], gradient))
    one, two, without = found
    for ours, expected in (*zip(one, two), *zip(one[:4], without), one[:2]):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    head = task.get_trainable_module().uncertainty.weight.numel() + 10  # its parameters, the last ones
    torch.testing.assert_close(two[-1][-head:], without[-1][-head:])  # it learns from both passes
    assert one[2] > 0 and (one[-1] - without[-1]).norm() > 1e-3 * one[-1].norm()  # some is of the unmixed outputs
    assert ratio == 'area' or (one[0] - target.lam).abs().max() > 1e-3


# Real models

@pytest.mark.parametrize('create, mode', [
    *((small_model, mode) for mode in MODES),
    *((partial(_vit, global_pool='avg', **kwargs), 'pair') for kwargs in (
        {}, {'class_token': False}, {'reg_tokens': 3}, {'fc_norm': False}))])
@pytest.mark.parametrize('term', [{}, {'gamma': 0.5}], ids=str)
@pytest.mark.parametrize('ratio', [*ONE_PASS, _own], ids=lambda ratio: getattr(ratio, '__name__', ratio))
def test_a_step_is_one_forward_of_the_model(ratio, term, create, mode):
    model, heads, stems = create(), [], []
    images, labels = random_images(7, side=32 if create is small_model else 64)
    task = make_task(model, mode, ratio=ratio, **term)
    task.prepare(images)
    stem = next(part for part in model.modules() if isinstance(part, nn.Conv2d))
    stem.register_forward_pre_hook(lambda _, inputs: stems.append(inputs[0]))
    model.get_classifier().register_forward_hook(lambda *parts: heads.append(parts[-1]))
    mixed, target = task.mixup(images, labels)
    target.original = None
    result = task(mixed, target)
    result['loss'].backward()
    assert all(parameter.grad is not None for parameter in task.get_trainable_module().parameters())
    assert len(stems) == 1 and stems[0] is mixed and torch.equal(heads[0], result['output'])
    assert all(value == 1 for name, value in model.state_dict().items() if 'num_batches_tracked' in name)
    atol = 1e-4 if create is small_model else 1e-6
    assert ratio == 'area' or not torch.allclose(result['lam'], target.lam, atol=atol)
    assert result['lam'].isfinite().all() and (result['uncertainty'] > 0) == bool(term)


@pytest.mark.parametrize('ratio', ['combined', 'evidence', 'feature', 'similarity'])
@pytest.mark.parametrize('mode', ['pair', 'elem'])
@pytest.mark.parametrize('names', [['cutmix', 'resizemix'], ['resizemix', 'cutmix', 'mixup'], list(POLICIES)], ids=str)
def test_each_image_has_the_share_that_it_has_where_its_pair_is_alone_in_the_batch(names, mode, ratio):
    model, options = small_model().eval(), SUMixOptions(ratio)
    mixup = SUMixMixup(0., policy=names, mode=mode, num_classes=10)
    x, labels = random_images(100)
    draws = mixup.draw(x)
    mixed, target = mixup.mix(x, labels, draws)
    lam, seen = correct(model, mixed, target, options), set()
    last = torch.zeros(len(x), dtype=torch.long)
    for i, part in enumerate(draws.parts[1:], 1):
        last = torch.where(part.chosen, i, last)
    for i, part in enumerate(draws.parts):
        alone, own = mixup.mix(x, labels, draws._replace(parts=[Part(part.policy, part.params)]))
        assert own.mixing.complementary == (mode == 'pair' and names[i] != 'resizemix')
        pair = (last == i) & (last.flip(0) == i)
        assert torch.equal(alone[pair], mixed[pair])
        torch.testing.assert_close(correct(model, alone, own, options)[pair], lam[pair], rtol=1e-4, atol=1e-5)
        seen |= {names[i]} if pair.any() else set()
    assert len(seen) > 1


@pytest.mark.parametrize('ratio', ['evidence', 'combined'])
def test_of_resizemix_nothing_is_compared_and_half_of_the_evidence_is_spread_evenly(ratio):
    model = _Local()
    mixed, target = SUMixMixup(0., policy='resizemix', mode='pair', num_classes=10)(*random_images(16))
    # of the first image the visible part of what is left, half of it by area; of the partner its area
    features, known = unmix(features_by_place(model, model.forward_features(mixed), (32, 32)), target.mixing)
    plain = evidence_map(features, known, Mixing(16, target.mask))
    first, _ = target.visible_fraction((4, 4))
    seen = (plain / plain.sum((1, 2), keepdim=True) * first).sum((1, 2))
    v_a, v_b = (seen + target.lam) / 2, 1 - target.lam
    for strength in (0., 1., 9.):
        torch.testing.assert_close(correct(model, mixed, target, SUMixOptions(ratio, strength)), v_a / (v_a + v_b))


# Transformers

def _distilled():
    return small_model('deit_tiny_distilled_patch16_224', img_size=64, depth=2, embed_dim=24)


def _reference_logits(model, mixed, target):
    """Return logits of the unmixed images: patches by place, tokens that have none by area, image by image."""
    tokens, side = model.forward_features(mixed), mixed.shape[-1]
    features, _ = unmix(features_by_place(model, tokens, (side, side)), target.mixing)
    prefix, rows = tokens.shape[1] - features.shape[1] * features.shape[2], []
    for i in range(len(mixed)):
        j = len(mixed) - 1 - i
        others = [target.lam[i] * tokens[i, t] + (1. - target.lam[i]) * tokens[j, t] for t in range(prefix)]
        rows.append(torch.stack([*others, *features[i].flatten(0, 1)]))
    return model.forward_head(torch.stack(rows))


@pytest.mark.parametrize('create', [
    _vit, _distilled, partial(_vit, fc_norm=True), partial(_vit, reg_tokens=2), partial(_vit, qk_norm=True),
    partial(_vit, global_pool='avg', reg_tokens=4), partial(_vit, global_pool='map'),
    partial(_vit, global_pool='map', pool_include_prefix=True),
    partial(small_model, 'cait_xxs24_224', img_size=64, depth=2, embed_dim=24, num_heads=2),
    partial(small_model, 'xcit_nano_12_p16_224', img_size=64),
    partial(small_model, 'eva02_tiny_patch14_224', img_size=56, depth=2, embed_dim=48, global_pool='token')])
def test_tokens_that_have_no_place_are_unmixed_by_area_and_every_ratio_reads_their_logits(create):
    model = create().eval()
    side = 56 if type(model).__name__ == 'Eva' else 64
    mixed, target = SUMixMixup(0., 1., mode='pair', num_classes=10)(*random_images(8, side))
    task = make_task(model, gamma=0.5).eval()
    with torch.no_grad():
        _, unmixed = (task.prepare(mixed), task.get_trainable_module()(mixed, None, target.mixing))[1]
        torch.testing.assert_close(unmixed.logits, _reference_logits(model, mixed, target))
    for ratio in ('similarity', 'combined'):
        lam = correct(model, mixed, target, SUMixOptions(ratio))
        assert ((lam - target.lam).abs()[(target.lam > 0) & (target.lam < 1)] > 1e-7).all()
        assert torch.equal(lam, correct(model, mixed, target, SUMixOptions('evidence'))) == reads_attention(model)
    make_task(create(), gamma=0.5)(mixed, target)['loss'].backward()


# The extremes

@pytest.mark.parametrize('ratio', ['combined', 'evidence', 'feature', 'similarity'])
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('value', [float('inf'), float('nan')])
@pytest.mark.parametrize('original_pass', ['none', 'no-grad'])
def test_an_overflow_in_one_map_leaves_the_area_to_that_pair_alone(original_pass, mode, ratio, value):
    model = small_model().eval()
    mixed, target = SUMixMixup(0., 1., mode=mode, num_classes=10)(*random_images(7))
    options = SUMixOptions(ratio, original_pass=original_pass)
    expected, forward_features = correct(model, mixed, target, options), model.forward_features

    def overflow(images):
        maps = forward_features(images).clone()
        maps[1:2, 0, 1, 1] = value
        return maps

    model.forward_features = overflow
    found = correct(model, mixed, target, options)
    hit = torch.tensor([False, True, False, False, False, True, False])
    assert torch.equal(found[hit], target.lam[hit])
    torch.testing.assert_close(found[~hit], expected[~hit])
    assert ((expected - target.lam).abs()[~hit] > 1e-5).any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('ratio', ONE_PASS)
@pytest.mark.parametrize('mode', ['pair', 'elem'])
def test_half_precision_changes_labels_and_term_little(ratio, dtype, mode):
    task = make_task(small_model(), mode, ratio=ratio, gamma=0.5)
    mixed, target = task.mixup(*random_images(8))
    expected = task(mixed, target)
    with torch.autocast('cpu', dtype):
        result = task(mixed, target)
    result['loss'].backward()
    assert result['loss'].dtype == result['lam'].dtype == torch.float32
    torch.testing.assert_close(result['lam'], expected['lam'], rtol=0., atol=0.03)
    torch.testing.assert_close(result['loss'], expected['loss'], rtol=0.05, atol=0.02)
    assert all(parameter.grad.isfinite().all() for parameter in task.get_trainable_module().parameters())


@pytest.mark.parametrize('count', [1, 2, 3])
@pytest.mark.parametrize('mode', MODES)
def test_batches_of_any_size_train(count, mode):
    result = make_task(_Local(), mode, {'policy': list(POLICIES)}, gamma=0.5)(*random_images(count))
    result['loss'].backward()
    assert result['lam'].isfinite().all() and result['loss'].isfinite()


@pytest.mark.slow  # inductor calls a compiler
def test_a_mask_is_averaged_by_cells_of_any_size_while_compiled():
    @torch.compile(dynamic=True, fullgraph=True)
    def visible(mask, maps):
        return Mixing(len(mask), mask, complementary=True).visible_fraction((maps.shape[1], maps.shape[2]))

    for side, height in ((32, 4), (64, 8), (45, 7)):
        mask, maps = torch.rand(6, 1, side, side) > 0.5, torch.rand(6, height, height + 1, 3)
        for compiled, expected in zip(visible(mask, maps), Mixing(6, mask).visible_fraction((height, height + 1))):
            torch.testing.assert_close(compiled, expected)
