"""Mixing: pixels against shares, and against timm's own classes."""
import pickle

import numpy as np
import pytest
import timm.data.mixup
import torch
from helpers import random_images
from scipy.stats import ks_2samp
from timm.data import FastCollateMixup, Mixup
from timm.data.loader import PrefetchLoader
from torch.utils._pytree import tree_leaves

from timm_sumix import FastCollateSUMix, SUMixMixup
from timm_sumix.mixing import Draws, Part, Policy
from timm_sumix.mixing.policies import POLICIES, create_policy, saliencymix
from timm_sumix.mixing.policies.box import Box

MODES = ['batch', 'pair', 'elem']
HARD = [name for name in POLICIES if name not in ('mixup', 'smoothmix')]  # no pixel is blended


def _constant_images(count, size, dtype=torch.float32):
    """Image i is i / count everywhere, so that pixels tell where they are from."""
    return (torch.arange(count, dtype=dtype) / count).view(-1, 1, 1, 1).expand(count, 3, *size).contiguous()


def _share_of_first(mixed, x):
    first, partner = x[:, 0, 0, 0].double(), x.flip(0)[:, 0, 0, 0].double()
    return (mixed.double().mean(dim=(1, 2, 3)) - partner) / (first - partner)


@pytest.mark.parametrize('mode', MODES)
def test_saliency_places_each_images_box_in_batch_mode_too(monkeypatch, mode):
    monkeypatch.setattr(saliencymix, 'draw_beta', lambda alpha, count, device: torch.linspace(0.9, 0.95, count))
    x, spots = torch.zeros(4, 3, 40, 40), [(8, 8), (8, 30), (30, 8), (30, 30)]
    for image, (row, column) in zip(x, spots):
        image[:, row - 2:row + 3, column - 2:column + 3] = 1.
    start, end = SUMixMixup(policy='saliencymix', mode=mode, num_classes=4).draw(x).parts[0].params
    expected = torch.tensor(spots[::-1], dtype=torch.float32)  # the partner's
    if mode == 'pair':  # the first image's, for both
        expected = torch.cat([expected[:2], expected[:2].flip(0)])
    whole = ((start > 0) & (end < 40)).all(1)
    assert whole.sum() >= 2 and (((start + end) / 2 - expected).abs() <= 3)[whole].all()
    assert mode != 'batch' or len((end - start)[whole].unique(dim=0)) == 1  # one size


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('policy', list(POLICIES))
def test_half_precision_and_channels_last_are_kept_and_lam_is_the_weight_applied(policy, dtype):
    x = torch.stack([torch.ones(3, 16, 16), torch.zeros(3, 16, 16)]).to(dtype, memory_format=torch.channels_last)
    mixed, target = SUMixMixup(policy=policy, mode='elem', num_classes=2)(x, torch.tensor([0, 1]))
    assert mixed.dtype == dtype and target.lam.dtype == torch.float32
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    share = torch.stack([mixed[0].float().mean(), 1 - mixed[1].float().mean()])
    torch.testing.assert_close(share, target.lam, rtol=0., atol=1e-4 if policy in HARD else 4e-3)


def test_one_policy_is_drawn_for_a_batch_by_its_probability():
    mixup = SUMixMixup(policy=['fmix', 'cutmix'], policy_probs=[0.8, 0.2], num_classes=2)
    drawn = [type(mixup.draw(torch.zeros(2, 3, 8, 8)).parts[0][0]).__name__ for _ in range(300)]
    assert 0.72 < drawn.count('FMix') / 300 < 0.88 and set(drawn) == {'FMix', 'CutMix'}


@pytest.mark.parametrize('policy', [*POLICIES, list(POLICIES)], ids=str)
@pytest.mark.parametrize('count', [1, 6, 7])
def test_what_is_drawn_for_pairs_has_a_row_for_each_image_and_the_partner_has_the_same(policy, count):
    draws = SUMixMixup(0., policy=policy, mode='pair', prob=0.5, num_classes=8).draw(torch.rand(count, 3, 16, 24))
    drawn = [leaf for leaf in tree_leaves(draws) if isinstance(leaf, torch.Tensor)]
    assert len(drawn) > 1 and all(len(tensor) == count and torch.equal(tensor, tensor.flip(0)) for tensor in drawn)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('policy', [*POLICIES, ['cutmix', 'mixup'], ['resizemix', 'mixup'], list(POLICIES)], ids=str)
def test_the_target_says_whose_share_is_exact_and_whether_pairs_share_a_mask(policy, mode):
    names = policy if isinstance(policy, list) else [policy]
    for _ in range(6):
        _, target = SUMixMixup(0., policy=policy, mode=mode, num_classes=30)(*random_images(30, 16))
        constant = target.visible_fraction((16, 16))[0].flatten(1).std(1) < 1e-6
        inner = (target.lam > 0.05) & (target.lam < 0.95)  # boxes of nothing and of all are constant too
        known = torch.zeros(30, dtype=torch.bool) if target.exact is None else target.exact
        assert torch.equal(constant[inner], known[inner])
        if mode == 'batch' and len(names) > 1:  # one of them was drawn
            continue
        assert (target.exact is not None) == ('mixup' in names)
        assert target.mixing.complementary == {
            'pair': 'resizemix' not in names, 'batch': policy not in ('resizemix', 'saliencymix'), 'elem': False}[mode]
        assert not target.mixing.complementary or target.partner_mask is None


@pytest.mark.parametrize('mode', ['pair', 'elem'])
@pytest.mark.parametrize('kwargs, part', [
    ({'mixup_alpha': 0., 'cutmix_alpha': 1.}, 1.), ({'mixup_alpha': 0.2}, 0.),
    ({'mixup_alpha': 0.8, 'cutmix_alpha': 1.}, 0.5),
    ({'mixup_alpha': 0.8, 'cutmix_alpha': 1., 'switch_prob': 0.3, 'prob': 0.5}, 0.15),
    ({'policy': ['smoothmix', 'resizemix', 'mixup']}, 2 / 3),
    ({'policy': ['fmix', 'mixup', 'resizemix'], 'policy_probs': [0.5, 0.2, 0.3]}, 0.8)])
def test_policies_share_a_batch_by_their_probabilities_and_what_is_not_mixed_stays_whole(kwargs, part, mode):
    mixup, x = SUMixMixup(**kwargs, mode=mode, num_classes=2), _constant_images(2, (16, 16)).repeat(1000, 1, 1, 1)
    assert mixup.corrected_part == pytest.approx(part)
    draws = mixup.draw(x)
    mixed, target = mixup.mix(x, torch.zeros(2000, dtype=torch.long), draws)
    active = torch.ones(2000, dtype=torch.bool) if draws.active is None else draws.active
    free = active if target.exact is None else active & ~target.exact
    assert free.float().mean().item() == pytest.approx(part, abs=0.05)
    assert torch.equal(mixed[~active], x[~active]) and (target.lam[~active] == 1.).all()
    assert active.float().mean().item() == pytest.approx(mixup.mix_prob, abs=0.05)
    torch.testing.assert_close(_share_of_first(mixed, x).float(), target.lam, rtol=0., atol=1e-4)


@pytest.mark.parametrize('prob', [1., 0.5])
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('policy', [*POLICIES, list(POLICIES)])
def test_target_and_lam_say_what_is_shown_and_masks_as_on_a_gpu_give_what_slices_do(monkeypatch, policy, mode, prob):
    names, labels, size = policy if isinstance(policy, list) else [policy], torch.arange(7), (17, 40)
    x = _constant_images(7, size) if 'resizemix' in names else torch.rand(7, 3, *size)
    mixup, before = SUMixMixup(0., policy=policy, mode=mode, prob=prob, num_classes=7), x.clone()
    for draws in filter(None, [mixup.draw(x) for _ in range(6)]):
        mixed, target = mixup.mix(x, labels, draws)
        with monkeypatch.context() as patch:
            for part in draws.parts:
                patch.setattr(type(part.policy), 'mix', Policy.mix)
            assert torch.equal(mixed, mixup.mix(x, labels, draws)[0])
        assert torch.equal(x, before) and target.original is x
        first, second = target.visible_fraction(size)
        torch.testing.assert_close(first.mean((1, 2)), target.lam)
        torch.testing.assert_close(second.mean((1, 2)), 1. - target.lam)
        torch.testing.assert_close(mixed, first[:, None] * x + (1. - first[:, None]) * x.flip(0))
        if policy == 'resizemix':  # all of the partner is shown, at a smaller size
            torch.testing.assert_close(second, (1. - target.lam).view(-1, 1, 1).expand_as(second))
        assert not set(names) <= set(HARD) or first.eq(first.round()).all()  # no pixel is blended
        if mode == 'pair':  # one mask, both ways
            assert torch.equal(first, first.flip(0)) and torch.equal(target.lam, target.lam.flip(0))
        own = len(target.lam.unique())  # each pair or element has its own, as SaliencyMix has in a batch too
        assert policy == 'saliencymix' or (own == 1 if mode == 'batch' else prob < 1. or own > 2)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('policy', ['cutmix', 'mixup'])
def test_cutmix_and_mixup_reproduce_timms(monkeypatch, policy, mode):
    np.random.seed(0)
    x, labels, drawn = torch.rand(8, 3, 32, 32), torch.randint(0, 10, (8,)), []
    params = torch.arange(1, 2 * {'batch': 1, 'pair': 4, 'elem': 8}[mode], 2) / 16  # lam of each
    timms, draw = Mixup(mode=mode, num_classes=10), timm.data.mixup.cutmix_bbox_and_lam
    monkeypatch.setattr(timms, '_params_per_batch', lambda: (params[0].item(), policy == 'cutmix'))
    monkeypatch.setattr(timms, '_params_per_elem', lambda n: (params.numpy().copy(), np.full(n, policy == 'cutmix')))
    monkeypatch.setattr(timm.data.mixup, 'cutmix_bbox_and_lam', lambda *args, **kwargs: (
        drawn.append(draw(*args, **kwargs)), drawn[-1])[1])
    expected, expected_dense = timms(x.clone(), labels)
    if policy == 'cutmix':
        params = torch.tensor([edges for edges, _ in drawn], dtype=torch.float32)[:, [0, 2, 1, 3]]
    params = torch.cat([params, params.flip(0)]) if mode == 'pair' else params
    params = Box(params[:, :2], params[:, 2:]) if policy == 'cutmix' else params
    mixed, target = SUMixMixup(mode=mode, num_classes=10).mix(x, labels, Draws([Part(create_policy(policy), params)]))
    torch.testing.assert_close(mixed, expected)
    assert policy == 'mixup' or torch.equal(mixed, expected)
    assert torch.equal(target.soft_target(), expected_dense)


@pytest.mark.skipif(timm.__version__ in ('1.0.27', '1.0.28'), reason='makes boxes of odd sides one pixel smaller')
@pytest.mark.parametrize('kwargs', [{'cutmix_alpha': 1.}, {'cutmix_alpha': 0.2}, {'cutmix_minmax': (0.2, 0.8)}])
def test_shares_and_boxes_are_distributed_as_timms(kwargs):
    size, count = (24, 40), 6000
    np.random.seed(0)
    mixup, timms = (kind(mixup_alpha=0., mode='elem', num_classes=2, **kwargs) for kind in (SUMixMixup, Mixup))
    x = torch.zeros(1, 3, *size).expand(count, -1, -1, -1)
    policy, box, _ = mixup.draw(x).parts[0]
    edges = box.start[:, 0], box.end[:, 0], box.start[:, 1], box.end[:, 1]
    theirs = []
    for drawn in timms._params_per_elem(count)[0]:
        their_edges, lam = timm.data.mixup.cutmix_bbox_and_lam((3, *size), drawn, ratio_minmax=timms.cutmix_minmax)
        theirs.append((*their_edges, lam))
    for ours, expected in zip((*edges, policy.mask(box, x)[1]), np.array(theirs, dtype=np.float32).T):
        assert ks_2samp(ours.numpy(), expected).pvalue > 1e-3


@pytest.mark.parametrize('kwargs, message', [
    ({'mode': 'half'}, r"mode must be one of \['batch', 'pair', 'elem'\], got 'half'"),
    ({'policy': 'cutmux'}, r"policy must name one or more of \['mixup', .*'smoothmix'\], each once, got 'cutmux'"),
    ({'policy': []}, 'policy must name one or more'), ({'policy': ['cutmix', 'cutmix']}, 'each once'),
    ({'policy_kwargs': {'alpha': 1.}}, 'policy_kwargs and policy_probs need a policy to be named'),
    ({'policy_probs': [1.]}, 'policy_kwargs and policy_probs need a policy to be named'),
    ({'policy': ['fmix', 'cutmix'], 'policy_probs': [1.]}, 'policy_probs must be 2 probabilities that sum to 1'),
    ({'policy': ['fmix', 'cutmix'], 'policy_probs': [0.5, 0.6]}, 'policy_probs must be 2 probabilities'),
    ({'policy': ['fmix', 'cutmix'], 'policy_probs': [1.5, -0.5]}, 'policy_probs must be 2 probabilities'),
    ({'policy': 'mixup', 'cutmix_alpha': 0.5}, "need 'cutmix' among the policies"),
    ({'policy': 'cutmix', 'mixup_alpha': 0.5}, "needs 'mixup' among the policies"),
    ({'mixup_alpha': 0.}, 'one of mixup_alpha > 0, cutmix_alpha > 0, cutmix_minmax or policy must be given'),
    ({'mixup_alpha': -1.}, 'mixup_alpha must be 0 or greater, got -1'),
    ({'cutmix_alpha': float('nan')}, 'cutmix_alpha must be 0 or greater'),
    ({'cutmix_minmax': (0.8, 0.2)}, r'cutmix_minmax must be two numbers with 0 <= min <= max <= 1, got \(0.8, 0.2\)'),
    ({'cutmix_minmax': 0.3}, 'cutmix_minmax must be two numbers .* got 0.3'),
    ({'correct_lam': False}, 'correct_lam must be True: labels follow the pixels, got False'),
    ({'prob': 1.5}, r'prob must be in \[0, 1\], got 1.5'), ({'switch_prob': -0.5}, r'switch_prob must be in \[0, 1\]'),
    ({'label_smoothing': 1.}, r'label smoothing must be in \[0, 1\)'),
    ({'num_classes': 0}, 'num_classes must be an integer, 1 or greater, got 0'),
    ({'num_classes': [97, 300]}, r'num_classes must be an integer, 1 or greater, got \[97, 300\]')])
def test_bad_options_are_refused(kwargs, message):
    for kind in (SUMixMixup, FastCollateSUMix):
        with pytest.raises(ValueError, match=message):
            kind(**kwargs)


def test_images_and_labels_of_two_lengths_are_refused():  # other bad batches are in test_target.py and test_task.py
    with pytest.raises(ValueError, match='got 2 images and 3 labels'):
        SUMixMixup(num_classes=4)(torch.rand(2, 3, 8, 8), torch.arange(3))


def test_collate_yields_originals_and_shares_its_switch():
    collate = FastCollateSUMix(cutmix_alpha=1., num_classes=4)
    assert isinstance(collate, FastCollateMixup)
    batch = [(np.full((3, 8, 8), i, dtype=np.uint8), i) for i in range(3)]
    images, labels = collate(batch)
    assert images.dtype == torch.uint8 and torch.equal(images[2], torch.full((3, 8, 8), 2, dtype=torch.uint8))
    assert labels.tolist() == [0, 1, 2] and labels.dtype == torch.int64
    with pytest.raises(ValueError, match=r'labels must be in \[0, 4\)'):
        collate([(batch[0][0], 4)])
    loader = PrefetchLoader(
        torch.utils.data.DataLoader(batch, batch_size=3, collate_fn=collate), device=torch.device('cpu'))
    assert loader.mixup_enabled
    loader.mixup_enabled = False
    assert not collate.mixup_enabled and not collate.mixup.mixup_enabled
    assert not pickle.loads(pickle.dumps(collate)).mixup_enabled


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('policy', [*POLICIES, ['cutmix', 'mixup'], list(POLICIES)], ids=str)
def test_a_seeded_run_repeats_itself_whatever_the_default_dtype_and_device(policy, mode, dtype):
    images, labels, found = torch.rand(3, 3, 259, 263), torch.arange(3), []  # sides that half precision has not
    mixup = SUMixMixup(policy=policy, mode=mode, prob=0.8, num_classes=10)
    for default, device in ((torch.float32, 'cpu'), (dtype, 'meta')):
        torch.manual_seed(3)
        torch.set_default_dtype(default)
        try:
            with torch.device(device):
                mixed, target = mixup(images, labels)
                found.append([mixed, target.lam, target.soft_target(), target.mask, target.partner_mask])
        finally:
            torch.set_default_dtype(torch.float32)
    for expected, own in zip(*found):
        assert expected is own is None or expected.dtype == own.dtype and torch.equal(expected, own)
