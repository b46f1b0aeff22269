"""Distillation: timm's own loss against the teacher, SUMix's against the labels."""
import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.loss import SoftTargetCrossEntropy
from timm.task import ClassificationTask, FeatureDistillationTask, LogitDistillationTask, TokenDistillationTask

from timm_sumix import SUMixDistillationTask, SUMixMixup, SUMixTask
from timm_sumix.correction.released import Released

CLASSES, SIDE = 5, 64


@pytest.fixture
def mixup():
    return SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode='pair', num_classes=CLASSES)


@pytest.fixture
def batch(mixup):
    torch.manual_seed(0)
    return mixup(torch.randn(8, 3, SIDE, SIDE), torch.arange(8) % CLASSES)


def _model(name='test_resnet', seed=0, **kwargs):
    torch.manual_seed(seed)
    return timm.create_model(name, num_classes=CLASSES, **kwargs)


def _create(kind, **kwargs):
    """One of timm's tasks, over a student and a teacher of other sizes and another normalisation."""
    student = _model('deit_tiny_distilled_patch16_224', img_size=SIDE, depth=2) if kind is TokenDistillationTask else (
        _model('test_resnet', output_stride=8))
    teacher = _model('resnet10t', seed=1, output_stride=8)
    teacher.pretrained_cfg = {**teacher.pretrained_cfg, 'mean': (0.1, 0.2, 0.3), 'std': (0.5, 0.4, 0.3)}
    torch.manual_seed(2)  # of the projection
    return kind(student, teacher, SoftTargetCrossEntropy(), verbose=False, **kwargs).train()


KINDS = (
    (LogitDistillationTask, {'temperature': 3.}, 'kd_loss'), (FeatureDistillationTask, {}, 'kd_loss'),
    (TokenDistillationTask, {'temperature': 2.}, 'distill_loss'),
    (TokenDistillationTask, {'distill_type': 'hard'}, 'distill_loss'))


@pytest.mark.parametrize('kind, kwargs, part', KINDS)
@pytest.mark.parametrize('weights', [
    {}, {'task_loss_weight': 0.3}, {'task_loss_weight': 0.7, 'distill_loss_weight': 2.}])
def test_all_parts_are_those_of_timm_under_the_corrected_labels(mixup, batch, kind, kwargs, part, weights):
    mixed, target = batch
    task = SUMixDistillationTask(_create(kind, **kwargs, **weights), mixup, verbose=False).train()
    plain, alone = (_create(kind, **kwargs, **weights) for _ in range(2))
    plain.teacher.eval()  # timm 1.0.28 and older leave it to train
    result = task(mixed, target)
    assert (result['lam'] - target.lam).abs().max() > 0.01
    expected = plain(mixed, target.soft_target(result['lam']))
    for name in ('loss', 'output', 'task_loss', part):
        torch.testing.assert_close(result[name], expected[name])
    torch.testing.assert_close(result['task_loss'], result['classification'])
    student = alone.trainable_module.student if kind is FeatureDistillationTask else alone.trainable_module
    without = SUMixTask(student, mixup, SoftTargetCrossEntropy(), verbose=False)(mixed, target)
    for name in ('classification', 'lam', 'output', 'uncertainty'):
        torch.testing.assert_close(result[name], without[name])
    result['loss'].backward()
    expected['loss'].backward()
    own, other = (
        {name: parameter.grad for name, parameter in each.get_trainable_module().named_parameters()}
        for each in (task, plain))
    assert len(own) == len(other) and all(grad is not None for grad in own.values())
    for name, grad in own.items():
        torch.testing.assert_close(grad, other.get(name, other.get(f'student.{name}')))
    assert all(parameter.grad is None for parameter in task.teacher.parameters())


@pytest.mark.parametrize('kind', [kind for kind, *_ in KINDS[:3]])
@pytest.mark.parametrize('options', [{'gamma': 0.5, 'original_pass': 'grad'}, {'ratio': Released()}], ids=str)
def test_every_kind_trains_with_every_option(mixup, kind, options):
    task, calls = SUMixDistillationTask(_create(kind), mixup, verbose=False, **options).train(), []
    if kind is FeatureDistillationTask:
        task.trainable_module.projection.register_forward_hook(lambda *_: calls.append(1))
    teacher = task.teacher
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    optimizer = torch.optim.SGD(task.get_trainable_module().parameters(), 0.1)
    for step in range(3):
        mixup.mixup_enabled = step != 1  # a batch that is not mixed in between
        loss = task(torch.randn(8, 3, SIDE, SIDE), torch.arange(8) % CLASSES)['loss']
        loss.backward()
        assert all(parameter.grad is not None for parameter in task.get_trainable_module().parameters())
        optimizer.step()
        optimizer.zero_grad()
        assert loss < 1e3
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not teacher.training and task.training and len(calls) == 3 * (kind is FeatureDistillationTask)
    assert task.pop_metrics()['lam'] > 0


def test_in_eval_mode_nothing_is_mixed_or_distilled(mixup):
    task = SUMixDistillationTask(_create(TokenDistillationTask), mixup, verbose=False).train()
    images, labels = torch.randn(4, 3, SIDE, SIDE), torch.arange(4)
    for part in (task, task.trainable_module, task.get_eval_model()):
        part.eval()
        result = task(images, labels)
        torch.testing.assert_close(result['loss'], F.cross_entropy(task.get_eval_model().eval()(images), labels))
        assert 'distill_loss' not in result
        task.eval()
        task.trainable_module.train()  # as timm's train_one_epoch does
        assert 'distill_loss' in task(images, labels)


@pytest.mark.parametrize('kind', [LogitDistillationTask, FeatureDistillationTask])
def test_a_checkpoint_resumes_and_is_a_plain_model_and_one_without_the_projection_is_an_error(mixup, kind):
    task = SUMixDistillationTask(_create(kind), mixup, gamma=0.5, verbose=False)
    state = task.get_checkpoint_state()
    _model('test_resnet', output_stride=8).load_state_dict(state['state_dict'])
    assert set(state['task_state']) == {'uncertainty', *(['projection'] if kind is FeatureDistillationTask else [])}
    other = SUMixDistillationTask(_create(kind), mixup, gamma=0.5, verbose=False)
    with torch.no_grad():
        for parameter in other.get_trainable_module().parameters():
            parameter.add_(1.)
    other.load_checkpoint_state(state['state_dict'], state['task_state'])
    for one, two in zip(task.get_trainable_module().parameters(), other.get_trainable_module().parameters()):
        assert torch.equal(one, two)
    state['task_state'].pop('projection', None)
    if kind is FeatureDistillationTask:
        with pytest.raises(ValueError, match='without a projection .* this run has one'):
            other.load_checkpoint_state(state['state_dict'], state['task_state'])
    other.load_checkpoint_state(state['state_dict'], state['task_state'], strict=False)


@pytest.mark.parametrize('kind', [kind for kind, *_ in KINDS[:3]])
def test_a_compiled_task_computes_the_same(mixup, batch, kind):
    plain, compiled = (SUMixDistillationTask(_create(kind), mixup, verbose=False).train() for _ in range(2))
    compiled.compile(backend='eager')
    expected, found = plain(*batch), compiled(*batch)
    for name in ('loss', 'lam', 'output'):
        torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=1e-4)


def test_a_projection_is_clipped_with_and_without_the_head_and_another_task_is_an_error(mixup):
    own, plain = _create(FeatureDistillationTask), _create(FeatureDistillationTask)
    task = SUMixDistillationTask(own, mixup, verbose=False)
    for exclude_head in (False, True):
        assert len(list(task.get_clip_parameters(exclude_head))) == len(list(plain.get_clip_parameters(exclude_head)))
    with pytest.raises(TypeError, match="one of timm's distillation tasks, got ClassificationTask"):
        SUMixDistillationTask(ClassificationTask(_model(), SoftTargetCrossEntropy(), verbose=False), mixup)


def test_batch_norm_in_a_students_head_counts_a_batch_once(mixup, batch):
    student, teacher = _model('mobilenetv4_conv_small'), _model('test_resnet', seed=1)
    own = FeatureDistillationTask(student, teacher, SoftTargetCrossEntropy(), verbose=False)
    plain = copy.deepcopy(student).train()
    SUMixDistillationTask(own, mixup, verbose=False).train()(*batch)
    plain(batch[0])
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], value, msg=name)
