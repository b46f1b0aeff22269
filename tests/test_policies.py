"""Each policy by itself: what it may draw, and the mask that follows from a draw."""
import cv2
import numpy as np
import pytest
import skimage.data
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_sample_images

from timm_sumix import SUMixMixup
from timm_sumix.mixing.policies import POLICIES, create_policy, fmix, resizemix
from timm_sumix.mixing.policies.box import Box
from timm_sumix.mixing.policies.cutmix import CutMix
from timm_sumix.mixing.policies.fmix import FMix, low_frequency_noise
from timm_sumix.mixing.policies.gridmix import GridMix
from timm_sumix.mixing.policies.mixup import MixUp
from timm_sumix.mixing.policies.resizemix import ResizeMix
from timm_sumix.mixing.policies.saliencymix import saliency
from timm_sumix.mixing.policies.smoothmix import SmoothMix

SIZE = (17, 40)
X = torch.zeros(1, 3, *SIZE)


def _reference_holes(size, corner, end, cell=1000, hole=1000):
    """1 outside the holes, 0 inside, hole by hole; a box is a single one."""
    (top, left), (bottom, right), expected = corner, end, torch.ones(size)
    for row in range(top, bottom, cell):
        for column in range(left, right, cell):
            expected[row:min(row + hole, bottom), column:min(column + hole, right)] = 0.
    return expected


@pytest.mark.parametrize('size', [SIZE, (33, 33), (64, 20)])
@pytest.mark.parametrize('policy', [
    CutMix(1.), CutMix(minmax=(0.2, 0.8)), ResizeMix(), create_policy('saliencymix', alpha=1.), GridMix(1.)])
def test_the_first_image_stays_outside_boxes_and_holes_and_lam_is_that_share(policy, size):
    x = torch.rand(20, 3, *size)
    params = policy.draw(20, x)
    if isinstance(params, Box):  # of nothing, all, and one pixel
        special = torch.tensor([[[0, 0], [0, 0]], [[0, 0], size], [[size[0] - 1, size[1] - 1], size]])
        params = Box(*(torch.cat([drawn, special[:, i].float()]) for i, drawn in enumerate(params)))
    mask, lam = policy.mask(params, x)
    assert mask.shape == (len(params[0]), 1, *size) and mask.dtype == torch.bool
    for i, own in enumerate(zip(*(value.int().tolist() for value in params))):
        expected = _reference_holes(size, *own)
        assert torch.equal(mask[i, 0].float(), expected)
        assert lam[i].item() == pytest.approx(expected.mean().item(), abs=1e-6)


@pytest.mark.parametrize('size', [(32, 32), (17, 40)])
@pytest.mark.parametrize('minmax', [(0.2, 0.8), (0., 1.), (0.5, 0.51)])
def test_minmax_bounds_the_sides_and_boxes_reach_both_borders(minmax, size):
    box = CutMix(minmax=minmax).draw(20000, torch.zeros(1, 3, *size))
    for low, high, length in zip(box.start.T, box.end.T, size):
        first, end = int(length * minmax[0]), max(int(length * minmax[1]), int(length * minmax[0]) + 1)
        assert set((high - low).long().tolist()) == set(range(first, end))
        assert low.min() == 0 and high.max() == length


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_mixup_lam_is_exactly_the_weight_in_the_images_dtype(dtype):
    policy, x = create_policy('mixup'), X.to(dtype)
    mask, lam = policy.mask(torch.tensor([0., 0.3, 1.]), x)
    assert mask.dtype == dtype and mask.shape == (3, 1, 1, 1) and lam.dtype == torch.float32
    assert lam.tolist() == mask.flatten().tolist() == [0., torch.tensor(0.3, dtype=dtype).item(), 1.]


@pytest.mark.parametrize('name', [name for name in POLICIES if name != 'smoothmix'])
@pytest.mark.parametrize('alpha', [1e-3, 1e-1, 1e3])
def test_extreme_alphas_draw_shares(name, alpha):
    policy, x = create_policy(name, alpha=alpha), torch.rand(500, 3, *SIZE)
    mask, lam = policy.mask(policy.draw(500, x), x)
    assert ((lam >= 0) & (lam <= 1)).all()
    spread = lam.std().item()
    assert spread > 0.4 if alpha < 0.1 and name in ('mixup', 'fmix') else spread > 0


@pytest.mark.parametrize('name, kwargs, message', [
    ('mixup', {'alpha': 0.}, 'alpha must be greater than 0, got 0.0'),
    ('mixup', {'alpha': float('nan')}, 'alpha must be greater than 0, got nan'),
    ('cutmix', {'alpha': -1.}, 'alpha must be greater than 0, got -1.0'),
    ('cutmix', {'alpha': float('inf')}, 'alpha must be greater than 0, got inf'),
    ('cutmix', {'minmax': (0.5,)}, 'minmax must be two numbers with 0 <= min <= max <= 1'),
    ('fmix', {'decay': -1.}, 'decay must be 0 or greater, got -1.0'),
    ('resizemix', {'scale': (0.8, 0.1)}, 'scale must be two numbers with 0 <= min <= max <= 1'),
    ('gridmix', {'holes': (0, 6)}, 'holes must be two numbers with 1 <= min <= max'),
    ('gridmix', {'holes': (2, 2.5)}, 'holes must be whole numbers'),
    ('gridmix', {'crop_area': (0.5, 1.5)}, 'crop_area must be two numbers with .* <= 1, got'),
    ('gridmix', {'crop_aspect': (0., 1.)}, 'crop_aspect must be two numbers'),
    ('smoothmix', {'sigma': (0., 0.5)}, 'sigma must be two numbers'),
    ('smoothmix', {'alpha': 1.}, r"policy 'smoothmix' has the options \['sigma'\]"),
    ('mixup', {'minmax': (0.1, 0.5)}, r"policy 'mixup' has the options \['alpha'\], got \['minmax'\]")])
def test_bad_options_are_refused(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        create_policy(name, **kwargs)


def test_options_are_given_flat_to_one_policy_and_by_name_to_several_and_alphas_as_timms_too():
    def made(policy, kwargs, *alphas):
        return SUMixMixup(*alphas, policy=policy, policy_kwargs=kwargs).policies

    both = {'cutmix': {'alpha': 2.}}
    assert made('cutmix', {'alpha': 2.}) == made('cutmix', both) == made(['cutmix'], both) == [CutMix(2.)]
    assert made(('mixup', 'cutmix'), both) == [MixUp(1.), CutMix(2.)] and made('cutmix', None) == [CutMix(0.2)]
    assert made(['mixup', 'cutmix'], {'cutmix': {'minmax': (0.2, 0.6)}}, 0.8, 0.5) == [
        MixUp(0.8), CutMix(0.5, (0.2, 0.6))]
    with pytest.raises(ValueError, match=r"must have the policies \['cutmix', 'mixup'\] as keys, got \['alpha'\]"):
        made(['cutmix', 'mixup'], {'alpha': 2.})


@pytest.mark.parametrize('size', [(32, 32), (17, 40), (33, 65), (224, 160)])
def test_fmix_keeps_the_drawn_share_to_the_pixel_where_the_noise_is_highest(monkeypatch, size):
    policy, x, noise = FMix(alpha=1.), torch.zeros(1, 3, *size), torch.randn(20, *size, dtype=torch.float64)
    monkeypatch.setattr(fmix, 'low_frequency_noise', lambda *_: noise)
    ranks, shares = policy.draw(20, x)
    shares[:2] = torch.tensor([0., 1.])  # nothing and all
    mask, lam = policy.mask((ranks, shares), x)
    assert mask.dtype == torch.bool and mask.shape == (20, 1, *size)
    for i, own in enumerate(noise.flatten(1)):
        count = mask[i].sum()
        assert abs(count.item() - shares[i].item() * own.numel()) <= 0.5 + 1e-2
        assert lam[i].item() == pytest.approx(mask[i].float().mean().item(), abs=1e-6)
        assert torch.equal(own.argsort(descending=True), ranks[i].flatten().argsort())
        assert torch.equal(mask[i, 0], ranks[i] < count) and ranks[i].max() == own.numel() - 1


@pytest.mark.parametrize('decay', [1.5, 3.])
@pytest.mark.parametrize('size', [(64, 64), (48, 96), (65, 65)])
def test_fmix_noise_falls_by_its_power_of_frequency(size, decay):
    noise = low_frequency_noise(64, size, decay, torch.device('cpu'))
    amplitude = torch.fft.fft2(noise).abs().square().mean(0).sqrt()
    frequency = torch.hypot(torch.fft.fftfreq(size[0]).view(-1, 1), torch.fft.fftfreq(size[1]))
    inner = (frequency > 2 / min(size)) & (frequency < 0.4)
    slope = np.polyfit(frequency[inner].log().numpy(), amplitude[inner].log().numpy(), 1)[0]
    assert slope == pytest.approx(-decay, rel=0.1)


@pytest.mark.parametrize('size', [SIZE, (4, 4), (2, 2), (1, 1), (1, 3), (32, 32)])
def test_resizemix_shows_the_whole_partner_by_nearest_pixels_in_a_box_that_is_never_empty(size):
    partner = torch.rand(50, 3, *size)
    box = ResizeMix().draw(50, partner)
    pasted = ResizeMix().paste(box, partner)
    for i, ((top, left), (bottom, right)) in enumerate(zip(box.start.int().tolist(), box.end.int().tolist())):
        assert 0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]
        rows = [row * size[0] // (bottom - top) for row in range(bottom - top)]
        columns = [column * size[1] // (right - left) for column in range(right - left)]
        assert torch.equal(pasted[i, :, top:bottom, left:right], partner[i][:, rows][:, :, columns])


def test_resizemix_draws_its_scale_from_the_range_for_both_sides(monkeypatch):
    monkeypatch.setattr(resizemix, 'centred_box', lambda centre, side, length: side / length)
    height, width = ResizeMix().draw(20000, torch.zeros(1, 3, 1000, 500))
    torch.testing.assert_close(width, height, rtol=0., atol=2e-3)
    assert 0.1 <= height.min() < 0.105 and 0.795 < height.max() <= 0.8 + 1e-6
    assert height.mean().item() == pytest.approx(0.45, abs=0.01)  # uniform within the range


def test_gridmix_draws_crops_and_cells_from_their_ranges():
    grid = GridMix().draw(5000, torch.zeros(1, 3, 400, 400))
    height, width = (grid.end - grid.start).T
    cells = (width / grid.cell).ceil()
    assert set(cells.tolist()) == {2., 3., 4., 5., 6.}
    area, free = height * width / 160000, (height < 400) & (width < 400)  # the border cuts the others
    assert area[free].min() > 0.495 and area.max() <= 1.
    assert (height / width)[free].min() >= 0.5 and (height / width)[free].max() <= 2.02
    assert grid.start.min() == 0 and grid.end.max() == 400


def test_smoothmix_is_a_gaussian_around_its_centre_and_its_sigma_a_share_of_the_height():
    mask, lam = SmoothMix().mask((torch.tensor([[3., 10.]]), torch.tensor([5.])), X)
    expected = torch.tensor([
        [1 - np.exp(-((row - 3) ** 2 + (column - 10) ** 2) / 50) for column in range(40)] for row in range(17)])
    torch.testing.assert_close(mask[0, 0], expected.float())
    assert lam.item() == pytest.approx(expected.mean().item(), abs=1e-5) and mask[0, 0, 3, 10] == 0
    centre, sigma = SmoothMix().draw(5000, torch.zeros(1, 3, 100, 20))
    assert 25 <= sigma.min() < 25.5 and 49.5 < sigma.max() <= 50
    assert set(centre[:, 1].tolist()) == set(range(20)) and centre[:, 0].max() == 99


PHOTOGRAPHS = ('astronaut', 'chelsea', 'coffee', 'rocket', 'camera', 'coins')


# another package may have brought a build of OpenCV without it, over that of the extra 'test'
@pytest.mark.skipif(
    not hasattr(getattr(cv2, 'saliency', None), 'StaticSaliencyFineGrained_create'),
    reason='needs opencv-contrib-python-headless alone')
@pytest.mark.parametrize('side', [64, 224, 512])
@pytest.mark.parametrize('grey', [False, True])
def test_saliency_is_that_of_opencv(side, grey):
    for photograph in [getattr(skimage.data, name)() for name in PHOTOGRAPHS] + load_sample_images().images:
        image = cv2.resize(photograph, (side, side * 3 // 4 if side == 224 else side), interpolation=cv2.INTER_AREA)
        if grey and image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        bgr = image[..., ::-1].copy() if image.ndim == 3 else image
        expected = cv2.saliency.StaticSaliencyFineGrained_create().computeSaliency(bgr)[1].ravel()
        x = torch.from_numpy(image).float().div(255).view(1, *image.shape[:2], -1).permute(0, 3, 1, 2)
        ours = saliency(x)[0].flatten().numpy()
        assert spearmanr(ours, expected).statistic >= 0.98
        assert (expected > expected[ours.argmax()]).mean() <= 0.01


def test_saliency_is_each_images_own_and_does_not_depend_on_scale_or_offset():
    x = torch.rand(3, 3, 40, 50)
    both = saliency(x)
    assert both.shape == (3, 40, 50)
    torch.testing.assert_close(both[1:2], saliency(x[1:2]))
    torch.testing.assert_close(saliency(5 * x - 3), both, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (2, 3), (9, 200)])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_saliency_takes_any_size_and_constant_images(size, channels):
    for x in (torch.rand(2, channels, *size).half(), torch.full((2, channels, *size), 0.7)):
        values = saliency(x)
        assert values.isfinite().all() and values.dtype == torch.float32 and ((values >= 0) & (values <= 2)).all()
