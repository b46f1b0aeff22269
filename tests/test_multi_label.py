"""Images of several classes, or of none."""
import pytest
import torch
import torch.nn.functional as F
from helpers import make_task, reference_dense, small_model
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy

from timm_sumix import FastCollateSUMix, MixedTarget, ModelOutput, SUMixLoss, SUMixMixup, correct
from timm_sumix.correction import RATIOS
from timm_sumix.options import SUMixOptions
from timm_sumix.preview import draw_preview

CUTMIX = {'mixup_alpha': 0., 'cutmix_alpha': 1., 'mode': 'pair', 'num_classes': 5, 'multi_label': True}
USES_CLASSES = ('combined', 'similarity', 'released')


def _batch(size=6):
    """Images, and labels [N, 5] of which one has no class and another all."""
    generator = torch.Generator().manual_seed(1)
    labels = (torch.rand(size, 5, generator=generator) < 0.4).float()
    labels[0], labels[2] = 0., 1.
    return torch.randn(size, 3, 64, 64, generator=generator), labels


@pytest.mark.parametrize('smoothing, criterion', [(0., None), (0.1, None), (0.1, BinaryCrossEntropy(smoothing=0.))])
@pytest.mark.parametrize('ratio', [ratio for ratio in RATIOS if ratio not in USES_CLASSES])
def test_the_loss_is_binary_cross_entropy_under_corrected_shares(ratio, smoothing, criterion):
    mixup, (images, labels) = {**CUTMIX, 'label_smoothing': smoothing}, _batch()
    task = make_task(small_model(num_classes=5), mixup=mixup, criterion=criterion, ratio=ratio)
    mixed, target = task.mixup(images, labels)
    result = task(mixed, target)
    assert (result['lam'] != target.area).any() == (ratio != 'area')
    wanted = reference_dense(labels, labels.flip(0), result['lam'], 5, smoothing)
    torch.testing.assert_close(target.soft_target(result['lam']), wanted)
    torch.testing.assert_close(result['loss'], F.binary_cross_entropy_with_logits(result['output'], wanted))
    result['loss'].backward()
    assert task.pop_metrics()['shift'] > 0 or ratio == 'area'


def test_targets_by_area_are_those_of_timm():
    labels, lam = _batch()[1], torch.tensor(0.3)
    try:
        expected = mixup_target(labels, 5, lam, 0.1, multi_label=True)
    except TypeError:
        pytest.skip('this timm mixes no multi-label targets')
    torch.testing.assert_close(MixedTarget(labels, lam.expand(6), 5, smoothing=0.1).soft_target(), expected)


@pytest.mark.parametrize('ratio', USES_CLASSES)
def test_a_ratio_that_asks_for_one_class_is_refused_by_its_name(ratio):
    with pytest.raises(ValueError, match=f"ratio '{ratio}' (compares what is predicted of one class|needs SoftTarget)"):
        make_task(small_model(num_classes=5), mixup=CUTMIX, ratio=ratio)
    mixed, target = SUMixMixup(**CUTMIX)(*_batch())
    with pytest.raises(ValueError, match=f"ratio '{ratio}' compares what is predicted of one class"):
        correct(small_model(num_classes=5), mixed, target, SUMixOptions(ratio=ratio))


@pytest.mark.parametrize('kwargs, message', [
    ({'gamma': 0.5}, 'the uncertainty term is of one class an image'),
    ({'criterion': SoftTargetCrossEntropy()}, 'the criterion must be a binary one, got SoftTargetCrossEntropy'),
    ({'criterion': torch.nn.CrossEntropyLoss()}, 'the criterion must be a binary one, got CrossEntropyLoss'),
    ({'criterion': F.cross_entropy}, 'the criterion must be a binary one, got cross_entropy')])
def test_what_is_of_one_class_is_refused_by_the_task_and_by_the_loss_alone(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_task(small_model(num_classes=5), mixup=CUTMIX, ratio='evidence', **kwargs)
    _, target = SUMixMixup(**CUTMIX)(*_batch())
    base = kwargs.get('criterion', BinaryCrossEntropy())
    with pytest.raises(ValueError, match=message):
        SUMixLoss(base, ratio='area', gamma=kwargs.get('gamma', 0.))(ModelOutput(torch.randn(6, 5)), None, target)


def test_in_eval_mode_and_without_mixing_the_labels_are_as_they_are():
    task = make_task(small_model(num_classes=5), mixup={**CUTMIX, 'label_smoothing': 0.}, ratio='evidence')
    images, labels = _batch()
    task.mixup.mixup_enabled = False
    for one in (task, task.eval()):
        result = one(images, labels)
        torch.testing.assert_close(result['loss'], F.binary_cross_entropy_with_logits(result['output'], labels))


def test_only_where_all_labels_agree_a_share_says_nothing():
    labels = torch.tensor([[1., 0.], [1., 1.], [1., 0.], [1., 0.]])
    target = MixedTarget(labels, torch.full((4,), 0.5), 2)
    assert target.same_labels.tolist() == [True, False, False, True]


def test_the_collate_function_takes_rows_of_labels():
    collate = FastCollateSUMix(**CUTMIX)
    images, labels = collate([(torch.zeros(3, 8, 8, dtype=torch.uint8), row) for row in torch.eye(5)[:4]])
    assert images.shape == (4, 3, 8, 8) and torch.equal(labels, torch.eye(5)[:4])


def test_a_preview_names_several_classes_or_none(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr('timm_sumix.preview._write', lambda sheet, left, top, names, *_: seen.append(tuple(names)))
    target = MixedTarget(torch.tensor([[0., 0.], [1., 1.]]), torch.full((2,), 0.5), 2)
    draw_preview(torch.rand(2, 3, 8, 8), target, target.lam, 2, tmp_path / 'preview.png', class_names=['cat', 'dog'])
    assert sorted(seen) == [('-', 'cat, dog'), ('cat, dog', '-')]


@pytest.mark.parametrize('labels, error, message', [
    (torch.arange(4) % 5, TypeError, r'must be a floating point tensor \[N, 5\], got torch.int64 \[4\]'),
    ([[0., 1.]] * 4, TypeError, 'must be a floating point tensor .*, got list'),
    (torch.zeros(4, 3), ValueError, r'must have shape \[N, 5\], got \[4, 3\]'),
    (torch.full((4, 5), torch.nan), ValueError, r'must be in \[0, 1\], got values from nan to nan'),
    (torch.full((4, 5), 2.), ValueError, r'must be in \[0, 1\], got values from 2.0 to 2.0')])
def test_labels_of_another_kind_are_an_error(labels, error, message):
    with pytest.raises(error, match=f'with multi_label, labels {message}'):
        SUMixMixup(**CUTMIX)(torch.randn(4, 3, 8, 8), labels)
