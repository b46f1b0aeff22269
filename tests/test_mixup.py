"""Mixing: pixels against shares, and against timm's own classes."""
import pickle

import numpy as np
import pytest
import timm.data.mixup
import torch
from scipy.stats import ks_2samp
from timm.data import FastCollateMixup, Mixup
from timm.data.loader import PrefetchLoader
from timm.loss import SoftTargetCrossEntropy

from timm_sumix import FastCollateSUMix, HeadOutput, SUMixLoss, SUMixMixup
from timm_sumix.mixup import Draws
from timm_sumix.policies import POLICIES, create_policy
from timm_sumix.policies.cutmix import Box

MODES = ['batch', 'pair', 'elem']
SIZES = [(32, 32), (33, 33), (17, 40)]


def _constant_images(count, size, dtype=torch.float32):
    """Image i is i / count everywhere, so that pixels tell where they are from."""
    return (torch.arange(count, dtype=dtype) / count).view(-1, 1, 1, 1).expand(count, 3, *size).contiguous()


def _share_of_first(mixed, x):
    first, partner = x[:, 0, 0, 0].double(), x.flip(0)[:, 0, 0, 0].double()
    return (mixed.double().mean(dim=(1, 2, 3)) - partner) / (first - partner)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('policy', list(POLICIES))
def test_lam_is_the_share_of_pixels_kept(policy, mode, size):
    torch.manual_seed(0)
    x = _constant_images(8, size)
    before = x.clone()
    for _ in range(10):
        mixed, target = SUMixMixup(policy=policy, mode=mode, num_classes=8)(x, torch.arange(8))
        torch.testing.assert_close(_share_of_first(mixed, x).float(), target.lam, rtol=0., atol=1e-4)
        assert torch.equal(x, before) and target.original is x
        if policy == 'cutmix':
            assert ((mixed == x) | (mixed == x.flip(0))).all()  # no pixel is blended
        if mode == 'pair':
            assert torch.equal(target.lam, target.lam.flip(0))
            kept = mixed == x
            assert policy != 'cutmix' or torch.equal(kept, kept.flip(0))  # one mask, both ways
        if mode == 'batch':
            assert len(target.lam.unique()) == 1
        if mode == 'elem':
            assert len(target.lam.unique()) > 4


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('policy', list(POLICIES))
def test_half_precision_images_stay_so_and_lam_is_the_weight_applied(policy, dtype):
    x = torch.stack([torch.ones(3, 16, 16), torch.zeros(3, 16, 16)]).to(dtype)
    mixed, target = SUMixMixup(policy=policy, mode='elem', num_classes=2)(x, torch.tensor([0, 1]))
    assert mixed.dtype == dtype and target.lam.dtype == torch.float32
    share = torch.stack([mixed[0].float().mean(), 1 - mixed[1].float().mean()])
    torch.testing.assert_close(share, target.lam, rtol=0., atol=1e-4 if policy == 'cutmix' else 4e-3)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('count', [1, 5])
def test_odd_batches_are_mixed_and_the_middle_image_is_its_own_partner(mode, count):
    x = torch.rand(count, 3, 8, 8)
    mixed, target = SUMixMixup(policy='cutmix', mode=mode, num_classes=10)(x, torch.arange(count))
    assert target.lam.shape == (count,) and target.partner_labels[count // 2] == count // 2
    assert torch.equal(mixed[count // 2], x[count // 2])


def test_channels_last_is_kept():
    x = torch.rand(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    for policy in POLICIES:
        mixed, _ = SUMixMixup(policy=policy, mode='elem', num_classes=4)(x, torch.arange(4))
        assert mixed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('mode', MODES)
def test_a_seeded_run_repeats_itself(mode):
    x, labels, mixup = torch.rand(6, 3, 9, 9), torch.arange(6), SUMixMixup(cutmix_alpha=1., mode=mode, num_classes=6)
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append([mixup(x, labels)[0] for _ in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*runs)) and not torch.equal(runs[0][0], runs[0][1])


@pytest.mark.parametrize('mode', MODES)
def test_nothing_is_mixed_at_probability_zero_or_switched_off(mode):
    x, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
    off = SUMixMixup(mode=mode, num_classes=4)
    off.mixup_enabled = False
    for mixup in (SUMixMixup(prob=0., mode=mode, num_classes=4), off):
        mixed, target = mixup(x, labels)
        assert mixed is x and not target.mixed and (target.lam == 1).all()


def test_elements_that_are_not_drawn_stay_whole():
    torch.manual_seed(0)
    x = _constant_images(1000, (8, 8))
    mixed, target = SUMixMixup(policy='mixup', prob=0.3, mode='elem', num_classes=1000)(x, torch.arange(1000))
    whole = (mixed == x).flatten(1).all(1)
    assert torch.equal(whole, target.lam == 1.) and 0.63 < whole.float().mean() < 0.77


@pytest.mark.parametrize('kwargs', [{'mixup_alpha': 1., 'cutmix_alpha': 1., 'switch_prob': 0.5},
                                    {'policy': ['mixup', 'cutmix'], 'cutmix_alpha': 1.}])
def test_several_policies_share_a_batch(kwargs):
    torch.manual_seed(0)
    x = _constant_images(400, (16, 16))
    mixed, target = SUMixMixup(**kwargs, mode='elem', num_classes=400)(x, torch.arange(400))
    blended = ((mixed != x) & (mixed != x.flip(0))).flatten(1).any(1)
    assert 0.4 < blended.float().mean() < 0.6
    torch.testing.assert_close(_share_of_first(mixed, x).float(), target.lam, rtol=0., atol=1e-4)


def test_options_of_a_policy_reach_it():
    assert SUMixMixup(policy='cutmix').policies == [create_policy('cutmix', alpha=0.2)]
    assert SUMixMixup(policy='cutmix', policy_kwargs={'alpha': 2.}).policies[0].alpha == 2.
    both = SUMixMixup(0.8, 0.5, policy=['mixup', 'cutmix'], policy_kwargs={'cutmix': {'minmax': (0.2, 0.6)}}).policies
    assert (both[0].alpha, both[1].alpha, both[1].minmax) == (0.8, 0.5, (0.2, 0.6))


def _timm_boxes(monkeypatch, mode, x, labels):
    """Mix by timm, and return its result together with what it drew, in the form that SUMixMixup applies."""
    drawn, original = [], timm.data.mixup.cutmix_bbox_and_lam

    def record(*args, **kwargs):
        drawn.append(original(*args, **kwargs))
        return drawn[-1]

    monkeypatch.setattr(timm.data.mixup, 'cutmix_bbox_and_lam', record)
    mixed, dense = Mixup(mixup_alpha=0., cutmix_alpha=1., mode=mode, num_classes=10)(x.clone(), labels)
    rows = torch.tensor([[*box, lam] for box, lam in drawn], dtype=torch.float32)
    return mixed, dense, Draws([(create_policy('cutmix'), Box(*rows.unbind(1)), None)])


@pytest.mark.parametrize('mode', MODES)
def test_area_without_uncertainty_reproduces_timms_images_targets_and_loss(monkeypatch, mode):
    np.random.seed(0)
    x, labels = torch.rand(8, 3, 32, 32), torch.randint(0, 10, (8,))
    expected, expected_dense, draws = _timm_boxes(monkeypatch, mode, x, labels)
    mixed, target = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode=mode, num_classes=10).mix(x, labels, draws)
    assert torch.equal(mixed, expected) and torch.equal(target.dense(), expected_dense)
    logits = torch.randn(8, 10)
    loss = SUMixLoss(ratio='area', gamma=0.)(HeadOutput(logits), None, target)['loss']
    assert torch.equal(loss, SoftTargetCrossEntropy()(logits, expected_dense))


@pytest.mark.parametrize('mode', MODES)
def test_mixup_reproduces_timms(monkeypatch, mode):
    x, labels = torch.rand(8, 3, 32, 32), torch.randint(0, 10, (8,))
    count = {'batch': 1, 'pair': 4, 'elem': 8}[mode]
    lam = torch.arange(1, count + 1) / 16
    mixup = Mixup(mixup_alpha=1., mode=mode, num_classes=10)
    monkeypatch.setattr(mixup, '_params_per_batch', lambda: (lam[0].item(), False))
    monkeypatch.setattr(mixup, '_params_per_elem', lambda n: (lam.numpy().copy(), np.zeros(n, dtype=bool)))
    expected, expected_dense = mixup(x.clone(), labels)
    draws = Draws([(create_policy('mixup'), lam, None)])
    mixed, target = SUMixMixup(mode=mode, num_classes=10).mix(x, labels, draws)
    torch.testing.assert_close(mixed, expected)
    assert torch.equal(target.dense(), expected_dense)


@pytest.mark.skipif(timm.__version__ in ('1.0.27', '1.0.28'), reason='makes boxes of odd sides one pixel smaller')
@pytest.mark.parametrize('kwargs', [
    {'cutmix_alpha': 1.}, {'cutmix_alpha': 0.2}, {'cutmix_minmax': (0.2, 0.8)},
    {'cutmix_alpha': 1., 'correct_lam': False}])
def test_shares_and_boxes_are_distributed_as_timms(kwargs):
    size, count = (24, 40), 6000
    torch.manual_seed(0)
    np.random.seed(0)
    mixup = SUMixMixup(mixup_alpha=0., mode='elem', num_classes=2, **kwargs)
    x = torch.zeros(1, 3, *size).expand(count, -1, -1, -1)
    policy, box, _ = mixup.draw(x).parts[0]
    _, lam = policy.mask(box, x)
    timms = Mixup(mixup_alpha=0., mode='elem', num_classes=2, **kwargs)
    theirs = []
    for drawn in timms._params_per_elem(count)[0]:
        edges, share = timm.data.mixup.cutmix_bbox_and_lam(
            (3, *size), drawn, ratio_minmax=timms.cutmix_minmax, correct_lam=timms.correct_lam)
        theirs.append((*edges, share))
    for ours, expected in zip((*box[:4], lam), np.array(theirs, dtype=np.float32).T):
        assert ks_2samp(ours.numpy(), expected).pvalue > 1e-3


@pytest.mark.parametrize('kwargs, message', [
    ({'mode': 'half'}, r"mode must be one of \['batch', 'pair', 'elem'\], got 'half'"),
    ({'policy': 'cutmux'}, r"policy must name one or more of \['mixup', 'cutmix'\], each once, got 'cutmux'"),
    ({'policy': []}, 'policy must name one or more'),
    ({'policy': ['cutmix', 'cutmix']}, 'each once'),
    ({'policy': 'cutmix', 'policy_kwargs': {'alfa': 1.}}, "policy 'cutmix' has the options .*got .'alfa'."),
    ({'policy': ['cutmix', 'mixup'], 'policy_kwargs': {'alpha': 1.}}, 'policy_kwargs must have the policies'),
    ({'policy_kwargs': {'alpha': 1.}}, 'policy_kwargs need a policy to be named'),
    ({'policy': 'mixup', 'cutmix_alpha': 0.5}, "need 'cutmix' among the policies"),
    ({'policy': 'cutmix', 'mixup_alpha': 0.5}, "needs 'mixup' among the policies"),
    ({'mixup_alpha': 0.}, 'one of mixup_alpha > 0, cutmix_alpha > 0, cutmix_minmax or policy must be given'),
    ({'mixup_alpha': -1.}, 'mixup_alpha must be 0 or greater, got -1'),
    ({'cutmix_alpha': float('nan')}, 'cutmix_alpha must be 0 or greater'),
    ({'cutmix_minmax': (0.8, 0.2)}, 'minmax must be two shares'),
    ({'prob': 1.5}, r'prob must be in \[0, 1\], got 1.5'),
    ({'switch_prob': -0.5}, r'switch_prob must be in \[0, 1\]'),
    ({'label_smoothing': 1.}, r'label smoothing must be in \[0, 1\)'),
    ({'multi_label': True}, 'multi_label must be False'),
    ({'num_classes': 0}, 'num_classes must be 1 or greater, got 0'),
])
@pytest.mark.parametrize('kind', [SUMixMixup, FastCollateSUMix])
def test_bad_options_are_refused(kind, kwargs, message):
    with pytest.raises(ValueError, match=message):
        kind(**kwargs)


def test_bad_batches_are_refused():
    mixup = SUMixMixup(num_classes=4)
    with pytest.raises(TypeError, match='labels must be an int64 tensor'):
        mixup(torch.rand(2, 3, 8, 8), torch.tensor([0., 1.]))
    with pytest.raises(ValueError, match=r'labels must be in \[0, 4\)'):
        mixup(torch.rand(2, 3, 8, 8), torch.tensor([0, 4]))
    with pytest.raises(ValueError, match='x must be images .* floating dtype, got torch.uint8'):
        mixup(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match='got 2 images and 3 labels'):
        mixup(torch.rand(2, 3, 8, 8), torch.tensor([0, 1, 2]))


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
