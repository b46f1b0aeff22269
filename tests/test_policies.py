"""Each policy by itself: what it may draw, and the mask that follows from a draw."""
import pytest
import torch

from timm_sumix.policies import POLICIES, create_policy, policy_names, split_kwargs
from timm_sumix.policies.cutmix import Box, CutMix

SIZE = (17, 40)


def _images(size=SIZE):
    return torch.zeros(1, 3, *size)


def _reference_mask(box, i, size):
    """1 outside box i, 0 inside, pixel by pixel."""
    top, bottom, left, right = (edge[i].item() for edge in box[:4])
    return torch.tensor([
        [0. if top <= row < bottom and left <= column < right else 1. for column in range(size[1])]
        for row in range(size[0])])


@pytest.mark.parametrize('kwargs', [
    {'alpha': 1.}, {'minmax': (0.2, 0.8)}, {'minmax': (0.2, 0.8), 'correct_lam': False}])
def test_cutmix_keeps_all_but_the_box_and_lam_is_that_share(kwargs):
    torch.manual_seed(0)
    policy, x = CutMix(**kwargs), _images()
    box = policy.draw(20, x)
    mask, lam = policy.mask(box, x)
    assert mask.shape == (20, 1, *SIZE) and mask.dtype == torch.bool
    for i in range(20):
        expected = _reference_mask(box, i, SIZE)
        assert torch.equal(mask[i, 0].float(), expected)
        assert lam[i].item() == pytest.approx(expected.mean().item(), abs=1e-6)


@pytest.mark.parametrize('edges, share', [((0, 0, 0, 0), 1.), ((0, 17, 0, 40), 0.), ((16, 17, 39, 40), 1 - 1 / 680)])
def test_cutmix_takes_boxes_of_nothing_all_and_one_pixel(edges, share):
    box = Box(*torch.tensor([[*edges, 0.5]], dtype=torch.float32).T)
    mask, lam = CutMix().mask(box, _images())
    assert mask.sum().item() == round(share * 680) and lam.item() == pytest.approx(share, abs=1e-6)


def test_cutmix_without_correct_lam_reports_the_share_drawn():
    torch.manual_seed(0)
    policy, x = CutMix(alpha=1., correct_lam=False), _images()
    box = policy.draw(200, x)
    mask, lam = policy.mask(box, x)
    assert torch.equal(lam, box.lam)
    # the border only ever cuts the box, and whole pixels are rounded down
    kept = mask.float().mean(dim=(1, 2, 3))
    assert (kept >= lam - 1e-6).all() and (kept > lam + 0.1).any()


def test_cutmix_boxes_stay_inside_and_their_centres_reach_every_pixel():
    torch.manual_seed(0)
    size = (5, 8)
    policy, x = CutMix(alpha=1.), _images(size)
    box = policy.draw(20000, x)
    for low, high, length in ((box.top, box.bottom, size[0]), (box.left, box.right, size[1])):
        assert (low >= 0).all() and (low <= high).all() and (high <= length).all()
    single = (box.bottom - box.top == 1) & (box.right - box.left == 1)
    places = (box.top * size[1] + box.left)[single].long()
    assert torch.bincount(places, minlength=40).min() > 0


@pytest.mark.parametrize('size', [(32, 32), (17, 40)])
@pytest.mark.parametrize('minmax', [(0.2, 0.8), (0., 1.), (0.5, 0.51)])
def test_minmax_bounds_the_sides_and_boxes_reach_both_borders(minmax, size):
    torch.manual_seed(0)
    box = CutMix(minmax=minmax).draw(20000, _images(size))
    for low, high, length in ((box.top, box.bottom, size[0]), (box.left, box.right, size[1])):
        first, end = int(length * minmax[0]), max(int(length * minmax[1]), int(length * minmax[0]) + 1)
        assert set((high - low).long().tolist()) == set(range(first, end))
        assert low.min() == 0 and high.max() == length


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_mixup_lam_is_exactly_the_weight_in_the_images_dtype(dtype):
    policy, x = create_policy('mixup'), _images().to(dtype)
    mask, lam = policy.mask(torch.tensor([0., 0.3, 1.]), x)
    assert mask.dtype == dtype and mask.shape == (3, 1, 1, 1) and lam.dtype == torch.float32
    assert lam.tolist() == mask.flatten().tolist() == [0., torch.tensor(0.3, dtype=dtype).item(), 1.]


@pytest.mark.parametrize('alpha', [0.2, 1., 8.])
def test_mixup_draws_from_beta(alpha):
    torch.manual_seed(0)
    lam = create_policy('mixup', alpha=alpha).draw(20000, _images())
    assert lam.mean().item() == pytest.approx(0.5, abs=0.02)
    assert lam.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


@pytest.mark.parametrize('name', list(POLICIES))
@pytest.mark.parametrize('alpha', [1e-3, 1e-1, 1e3])
def test_extreme_alphas_draw_shares(name, alpha):
    torch.manual_seed(0)
    policy, x = create_policy(name, alpha=alpha), _images()
    mask, lam = policy.mask(policy.draw(500, x), x)
    assert ((lam >= 0) & (lam <= 1)).all()
    spread = lam.std().item()
    assert spread > 0.4 if alpha < 0.1 and name == 'mixup' else spread > 0


@pytest.mark.parametrize('name, kwargs, message', [
    ('mixup', {'alpha': 0.}, 'alpha must be greater than 0, got 0.0'),
    ('mixup', {'alpha': float('nan')}, 'alpha must be greater than 0, got nan'),
    ('cutmix', {'alpha': -1.}, 'alpha must be greater than 0, got -1.0'),
    ('cutmix', {'alpha': float('inf')}, 'alpha must be greater than 0, got inf'),
    ('cutmix', {'minmax': (0.5,)}, 'minmax must be two shares with 0 <= min < max <= 1'),
    ('cutmix', {'minmax': (0.5, 0.5)}, 'minmax must be two shares'),
    ('cutmix', {'minmax': (-0.1, 0.5)}, 'minmax must be two shares'),
    ('cutmix', {'minmax': (0.5, 1.1)}, 'minmax must be two shares'),
    ('mixup', {'minmax': (0.1, 0.5)}, r"policy 'mixup' has the options \['alpha'\], got \['minmax'\]"),
    ('cutmux', {}, r"policy must name one or more of \['mixup', 'cutmix'.*got 'cutmux'"),
])
def test_bad_options_are_refused(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        create_policy(name, **kwargs)


def test_options_are_given_flat_to_one_policy_and_by_name_to_several():
    both = {'cutmix': {'alpha': 2.}}
    assert policy_names('cutmix') == ['cutmix'] and policy_names(('cutmix', 'mixup')) == ['cutmix', 'mixup']
    assert split_kwargs(['cutmix'], {'alpha': 2.}) == split_kwargs(['cutmix'], both) == both
    assert split_kwargs(['cutmix', 'mixup'], both) == both and split_kwargs(['mixup'], None) == {}
    with pytest.raises(ValueError, match=r"must have the policies \['cutmix', 'mixup'\] as keys, got \['alpha'\]"):
        split_kwargs(['cutmix', 'mixup'], {'alpha': 2.})
