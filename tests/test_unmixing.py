"""Unmixing: the maps of the unmixed images from those of the mixed ones, and all that follows from them in one pass."""
from dataclasses import dataclass
from functools import partial

import pytest
import timm
import torch
from torch import nn

from timm_sumix import Policy, SUMixMixup, SUMixOptions, SUMixTask, correct
from timm_sumix.correction import RATIOS, evidence_map, unmix
from timm_sumix.maps import features_by_place
from timm_sumix.mixing import MODES
from timm_sumix.mixing.draws import Part
from timm_sumix.mixing.policies import POLICIES
from timm_sumix.mixing.policies.cutmix import CutMix
from timm_sumix.region import Mixing

CUTMIX = CutMix(alpha=1.)
ONE_PASS = [ratio for ratio in RATIOS if ratio != 'released']
GRID, CELL = (3, 2), 4  # cells, and pixels a cell has on either side
SIZE = (GRID[0] * CELL, GRID[1] * CELL)
CELLS = [(row, column) for row in range(GRID[0]) for column in range(GRID[1])]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# The maps

def _cell(mask, row, column):
    """Return the mean of a mask [H, W] over a cell."""
    part = mask.float().expand(SIZE)[row * CELL:(row + 1) * CELL, column * CELL:(column + 1) * CELL]
    return sum(part.flatten().tolist()) / CELL ** 2


def _row(mask, i):
    return mask[i % len(mask), 0]  # one mask for all, or one for each


def _reference_unmix(maps, i, k, mask, partner_mask):
    """Return the map of image i and what is known of it, k being a mixed image that has it for a partner, or None."""
    shown, known = {}, {}
    for cell in CELLS:
        first, second = _cell(_row(mask, i), *cell), 0.
        if k is not None and partner_mask is None:
            second = 1. - _cell(_row(mask, k), *cell)
        elif k is not None:
            both = [_cell(_row(mask, k), *c) + _cell(_row(partner_mask, k), *c) for c in CELLS]
            in_place = all(abs(part - 1.) < 1e-3 for part in both)
            second = _cell(_row(partner_mask, k), *cell) if in_place else 0.
        rest = min(second, 1. - first)
        known[cell] = first + rest
        shown[cell] = first * maps[i][cell] + (rest * maps[k][cell] if k is not None else 0.)
    mean = sum(shown.values()) / max(sum(known.values()), 1e-6)
    return {cell: shown[cell] + (1. - known[cell]) * mean for cell in CELLS}, known


def _assert_unmixed(mixing):
    maps = torch.randn(mixing.size, *GRID, 5)
    found, known = unmix(maps, mixing)
    index = list(range(mixing.size))[::-1] if mixing.index is None else mixing.index.tolist()
    for i in range(mixing.size):
        candidates = [k for k, partner in enumerate(index) if partner == i] or [None]
        references = [_reference_unmix(maps, i, k, mixing.mask, mixing.partner_mask) for k in candidates]
        matches = [all(torch.allclose(found[i][cell], own[cell], atol=1e-5) for cell in CELLS) for own, _ in references]
        assert any(matches), i
        parts = references[matches.index(True)][1]
        seen = torch.ones(GRID) if known is None else known[i]
        torch.testing.assert_close(seen, torch.tensor(list(parts.values())).view(GRID), rtol=0, atol=1e-5)
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
            known, mixing = _assert_unmixed(target.mixing), target.mixing
            assert (known is None) == mixing.complementary
            assert not mixing.complementary or torch.equal(mixing.mask, mixing.mask.flip(0))
            assert mixing.complementary or mode == 'elem' or 'resizemix' in policy or 'saliencymix' in policy


@pytest.mark.parametrize('index', [[1, 2, 3, 4, 0], [0, 1, 2, 3, 4], [3, 3, 0, 0, 1], [2, 2, 2, 2, 2]], ids=str)
@pytest.mark.parametrize('soft', [False, True])
@pytest.mark.parametrize('whole', [False, True])
def test_partners_may_be_any_and_who_is_nobodys_is_known_by_its_own_mixture_alone(index, soft, whole):
    mask = torch.rand(5, 1, *SIZE)
    mask = mask if soft else mask < torch.tensor([0., 0.3, 0.6, 0.9, 1.]).view(-1, 1, 1, 1)
    partner_mask = 1. - mask.float()
    partner_mask[2:4] = partner_mask[2:4].mean((1, 2, 3), keepdim=True)  # as ResizeMix shows them
    mixing = Mixing(5, mask, partner_mask if whole else None, torch.tensor(index))
    known = _assert_unmixed(mixing)
    alone = [i for i in range(5) if i not in index]
    assert torch.allclose(known[alone], mixing.visible_fraction(GRID)[0][alone])
    rows = mixing.as_partner(torch.arange(1., 6.))
    assert all(rows[i] == 0 if i in alone else index[int(rows[i]) - 1] == i for i in range(5))


def test_an_image_that_is_not_mixed_has_its_own_map_to_the_last_bit():
    for mode in ('pair', 'elem'):
        mixup = SUMixMixup(policy='cutmix', mode=mode, prob=0.5, num_classes=32)
        _, target = mixup(torch.rand(32, 3, *SIZE), torch.arange(32))
        maps = torch.randn(32, *GRID, 5)
        whole = target.lam == 1.
        assert 4 < whole.sum() < 28 and torch.equal(unmix(maps, target.mixing)[0][whole], maps[whole])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_maps_keep_their_dtype_and_gradient(dtype):
    for mode in MODES:
        _, target = SUMixMixup(policy='resizemix', mode=mode, num_classes=8)(torch.rand(4, 3, *SIZE), torch.arange(4))
        maps = torch.randn(4, *GRID, 5).to(dtype).requires_grad_()
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
    share: float = 0.5

    def draw(self, count, x, rows=None):
        return torch.rand(count, 1, 4, 4) < self.share

    def mask(self, params, x):
        return params.repeat_interleave(8, 2).repeat_interleave(8, 3), params.float().mean((1, 2, 3))


def _own(mixed, original, target):
    parts = mixed.logits - original.logits, mixed.features - original.features, original.evidence
    return (target.lam + sum(part.flatten(1).norm(dim=1) for part in parts).tanh()) / 2


def _task(model, policy=CUTMIX, mode='pair', **options):
    return SUMixTask(model, SUMixMixup(policy=policy, mode=mode, num_classes=10), verbose=False, **options)


def _images(count=7, side=32):
    return torch.randn(count, 3, side, side), torch.arange(count) % 10


@pytest.mark.parametrize('layout', ['NCHW', 'NHWC', 'tokens'])
@pytest.mark.parametrize('mode', ['pair', 'batch'])
@pytest.mark.parametrize('ratio', [*ONE_PASS, _own], ids=lambda ratio: getattr(ratio, '__name__', ratio))
def test_without_a_view_of_the_other_image_one_pass_gives_the_labels_of_two(ratio, mode, layout):
    model, losses, shares = _Local(layout), [], []
    for original_pass in ('none',) if ratio == 'area' else ('none', 'no-grad'):
        task = _task(model, _Cells(), mode, ratio=ratio, original_pass=original_pass)
        torch.manual_seed(1)
        mixed, target = task.mixup(*_images())
        result = task(mixed, target)
        losses.append(result['loss'])
        shares += [result['lam'], correct(model, mixed, target, SUMixOptions(ratio, original_pass=original_pass))]
    for share in shares:
        torch.testing.assert_close(share, shares[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses[0], losses[-1])
    assert ratio == 'area' or (shares[0] - target.lam).abs().max() > 1e-3


@pytest.mark.parametrize('layout', ['NCHW', 'NHWC', 'tokens'])
@pytest.mark.parametrize('mode', ['pair', 'batch'])
@pytest.mark.parametrize('ratio', ['similarity', 'evidence', 'area'])
def test_without_a_view_of_the_other_image_one_pass_gives_the_term_and_the_gradient_of_two(ratio, mode, layout):
    found = []
    for original_pass in ('none', 'grad', 'no-grad'):
        torch.manual_seed(1)
        task = _task(_Local(layout), _Cells(), mode, gamma=0.5, original_pass=original_pass, ratio=ratio)
        result = task(*task.mixup(*_images()))
        result['loss'].backward()
        gradients = [parameter.grad.flatten() for parameter in task.get_trainable_module().parameters()]
        found.append((result['uncertainty'], result['loss'], torch.cat(gradients)))
    one, two, without = found
    for ours, expected in zip(one, two):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    head = task.get_trainable_module().uncertainty.weight.numel() + 10  # its parameters, the last ones
    torch.testing.assert_close(two[2][-head:], without[2][-head:])  # it learns from both passes
    assert one[0] > 0 and (one[2] - without[2]).norm() > 1e-3 * one[2].norm()  # some of it is of the unmixed outputs


def test_in_mode_elem_what_no_mixture_shows_is_left_out():
    model, pairs = _Local(), []
    for mode in ('pair', 'elem'):
        task = _task(model, _Cells(0.8), mode)
        torch.manual_seed(1)
        mixed, target = task.mixup(*_images(8))
        lam, two = (
            correct(model, mixed, target, SUMixOptions('evidence', original_pass=made)) for made in ('none', 'no-grad'))
        pairs.append((lam, two, target.lam))
    assert torch.allclose(*pairs[0][:2], atol=1e-5) and not torch.allclose(*pairs[1][:2], atol=1e-3)
    lam, two, area = pairs[1]
    assert (lam - two).abs().mean() < 0.5 * (area - two).abs().mean()  # yet most is known


# Real models

def _resnet(**kwargs):
    return timm.create_model('test_resnet', num_classes=10, output_stride=8, **kwargs)


def _vit(**kwargs):
    return timm.create_model('test_vit', num_classes=10, img_size=64, **kwargs)


@pytest.mark.parametrize('create, mode', [
    *((_resnet, mode) for mode in MODES),
    *((partial(_vit, global_pool='avg', **kwargs), 'pair') for kwargs in (
        {}, {'class_token': False}, {'reg_tokens': 3}, {'fc_norm': False}))])
@pytest.mark.parametrize('options', [
    {'ratio': ratio, **term} for ratio in [*ONE_PASS, _own] for term in ({}, {'gamma': 0.5})],
    ids=lambda options: str({**options, 'ratio': getattr(options['ratio'], '__name__', options['ratio'])}))
def test_a_step_is_one_forward_of_the_model(options, create, mode):
    model = create()
    images, labels = _images(side=32 if create is _resnet else 64)
    task = _task(model, mode=mode, **options)
    task.prepare(images)
    calls, stems = [], []
    model.register_forward_hook(lambda _, inputs, output: calls.append((inputs[0], output)))
    stem = next(part for part in model.modules() if isinstance(part, nn.Conv2d))
    stem.register_forward_hook(lambda *_: stems.append(1))
    mixed, target = task.mixup(images, labels)
    target.original = None
    result = task(mixed, target)
    result['loss'].backward()
    assert all(parameter.grad is not None for parameter in task.get_trainable_module().parameters())
    assert len(calls) == len(stems) == 1 and calls[0][0] is mixed and torch.equal(calls[0][1], result['output'])
    assert all(value == 1 for name, value in model.state_dict().items() if 'num_batches_tracked' in name)
    atol = 1e-4 if create is _resnet else 1e-6
    assert options['ratio'] == 'area' or not torch.allclose(result['lam'], target.lam, atol=atol)
    assert result['lam'].isfinite().all() and (result['uncertainty'] > 0) == ('gamma' in options)


@pytest.mark.parametrize('mode', ['pair', 'elem'])
@pytest.mark.parametrize('ratio, strength', [
    ('evidence', 0.), ('evidence', 20.), ('feature', 20.), ('similarity', 20.), ('released', None)])
def test_images_of_mixup_keep_their_share_whatever_the_strength(ratio, strength, mode):
    model = _resnet().eval()
    mixed, target = SUMixMixup(1., 1., mode=mode, num_classes=10)(*_images(16))
    blended = ((mixed != target.original) & (mixed != target.original.flip(0))).flatten(1).any(1)
    lam = correct(model, mixed, target, SUMixOptions(ratio, strength))
    assert torch.equal(lam[blended], target.lam[blended]) and 4 <= blended.sum() <= 12
    assert ((lam - target.lam).abs()[~blended] > 1e-4).any()
    mixed, target = SUMixMixup(1., mode=mode, num_classes=10)(*_images(16))
    assert torch.equal(correct(model, mixed, target, SUMixOptions(ratio, strength)), target.lam)


@pytest.mark.parametrize('ratio', ['combined', 'evidence', 'feature', 'similarity'])
@pytest.mark.parametrize('mode', ['pair', 'elem'])
@pytest.mark.parametrize('names', [['cutmix', 'resizemix'], ['resizemix', 'cutmix', 'mixup'], list(POLICIES)], ids=str)
def test_each_image_has_the_share_that_it_has_where_its_pair_is_alone_in_the_batch(names, mode, ratio):
    model, options = _resnet().eval(), SUMixOptions(ratio)
    mixup = SUMixMixup(0., policy=names, mode=mode, num_classes=10)
    x, labels = _images(100)
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
    for policy in ('cutmix', 'resizemix', ['cutmix', 'resizemix']):
        mixed, target = SUMixMixup(0., policy=policy, mode='pair', num_classes=10)(*_images(16))
        lam, weak, strong = (
            correct(model, mixed, target, SUMixOptions(ratio, strength)) for strength in (0., 1., 9.))
        # pixels that are neither of the first image nor of the second in its place
        moved = ((mixed != target.original) & (mixed != target.original.flip(0))).flatten(1).any(1)
        assert moved.any() == ('resizemix' in policy) and (~moved).any() == ('cutmix' in policy)
        assert torch.equal(weak[moved], strong[moved]) and torch.equal(weak[moved], lam[moved])
        assert (~torch.isclose(weak, strong)[~moved]).sum() > (~moved).sum() / 2 or policy == 'resizemix'
        if not moved.any():
            continue
        # of the first image the visible part of what is left, half of it by area; of the partner its area
        maps = features_by_place(model, model.forward_features(mixed), (32, 32))
        features, known = unmix(maps, target.mixing)
        plain = evidence_map(features, known, Mixing(16, target.mask))
        first, _ = target.visible_fraction((4, 4))
        seen = (plain / plain.sum((1, 2), keepdim=True) * first).sum((1, 2))
        v_a, v_b = (seen + target.lam) / 2, 1 - target.lam
        torch.testing.assert_close(lam[moved], (v_a / (v_a + v_b))[moved])


# Transformers

def _distilled():
    return timm.create_model(
        'deit_tiny_distilled_patch16_224', num_classes=10, img_size=64, depth=2, embed_dim=24)


@pytest.mark.parametrize('create', [_vit, _distilled, lambda: _vit(fc_norm=True), lambda: _vit(reg_tokens=2)])
def test_with_a_class_token_evidence_and_features_take_the_place_of_predictions(create, caplog):
    model = create().eval()
    for ratio, instead in (
            ('combined', (1., 0., 1.)), ('similarity', (1., 0., 0.5)), ((0.5, 2., 1.), (0.5, 0., 1.5)),
            ('evidence', (1., 0., 1.)), ('feature', (0., 0., 8.))):
        caplog.clear()
        task = SUMixTask(model, SUMixMixup(0., mode='pair', num_classes=10, cutmix_alpha=1.), ratio=ratio)
        mixed, target = task.mixup(*_images(8, 64))
        for _ in range(2):
            lam = task(mixed, target)['lam']
        assert ((lam - target.lam).abs()[(target.lam > 0) & (target.lam < 1)] > 1e-5).all()
        for options in (SUMixOptions(ratio), SUMixOptions(instead)):
            torch.testing.assert_close(correct(model, mixed, target, options), lam)
        warnings = [record.getMessage() for record in caplog.records if record.levelname == 'WARNING']
        assert len(warnings) == (ratio not in ('evidence', 'feature')) and all(
            'reads more than the last feature map' in said and '--gp avg' in said for said in warnings)
    with pytest.raises(ValueError, match="the uncertainty term needs logits .*use original_pass 'grad', anoth"):
        _task(create(), gamma=0.5)(mixed, target)
    for options in ({'ratio': 'similarity', 'original_pass': 'no-grad'}, {'gamma': 0.5, 'original_pass': 'grad'}):
        result = _task(create(), **options)(mixed, target)
        result['loss'].backward()
        assert not torch.allclose(result['lam'], target.lam, atol=1e-5)


# The extremes

@pytest.mark.parametrize('ratio', ['combined', 'evidence', 'feature', 'similarity'])
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('value', [float('inf'), float('nan')])
@pytest.mark.parametrize('original_pass', ['none', 'no-grad'])
def test_an_overflow_in_one_map_leaves_the_area_to_that_pair_alone(original_pass, mode, ratio, value):
    model = _resnet().eval()
    mixed, target = _task(model, mode=mode).mixup(*_images(7))
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
@pytest.mark.parametrize('options', [
    *({'ratio': ratio} for ratio in ONE_PASS), {'gamma': 0.5}], ids=str)
@pytest.mark.parametrize('mode', ['pair', 'elem'])
def test_half_precision_changes_labels_little(options, dtype, mode):
    torch.manual_seed(0)
    task = _task(_resnet(), mode=mode, **options)
    mixed, target = task.mixup(*_images(8))
    expected = task(mixed, target)
    with torch.autocast('cpu', dtype):
        result = task(mixed, target)
    result['loss'].backward()
    assert result['loss'].dtype == result['lam'].dtype == torch.float32
    torch.testing.assert_close(result['lam'], expected['lam'], rtol=0., atol=0.03)
    torch.testing.assert_close(result['loss'], expected['loss'], rtol=0.05, atol=0.02)
    assert all(parameter.grad.isfinite().all() for parameter in task.get_trainable_module().parameters())


@pytest.mark.parametrize('same', [False, True])
@pytest.mark.parametrize('ratio', [ratio for ratio in ONE_PASS if ratio != 'area'])
@pytest.mark.parametrize('mode', ['pair', 'elem'])
def test_shares_of_nothing_and_all_stay_exact_and_batches_of_one_label_finite(ratio, mode, same):
    task = _task(_resnet(), [_Cells(0.), _Cells(0.5), _Cells(1.)], mode, ratio=ratio)
    x, labels = _images(24)
    mixed, target = task.mixup(x, labels * (not same))
    result = task(mixed, target)
    lam, edge = result['lam'], (target.lam == 0.) | (target.lam == 1.)
    assert torch.equal(lam[edge], target.lam[edge]) and set(lam[edge].tolist()) == {0., 1.}
    assert lam.isfinite().all() and ((lam[~edge] > 0) & (lam[~edge] < 1)).all() and result['loss'].isfinite()
    assert (lam[~edge] != target.lam[~edge]).any()


@pytest.mark.parametrize('count', [1, 2, 3])
@pytest.mark.parametrize('mode', MODES)
def test_batches_of_any_size_train(count, mode):
    task = _task(_Local(), mode=mode, policy=list(POLICIES), gamma=0.5)
    result = task(*_images(count))
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
