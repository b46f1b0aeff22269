"""What only a GPU can show: `make gpu`. Where it makes sense, the same test runs on the CPU by default."""
import copy

import pytest
import torch
from helpers import make_task, small_model
from torch.utils._pytree import tree_map_only

from benchmarks.speed import steps as speed
from benchmarks.speed.steps import BASE, Workload, measure
from timm_sumix import SUMixMixup, SUMixTask
from timm_sumix.mixing import MODES
from timm_sumix.mixing.policies import POLICIES

GPU = pytest.param('cuda', marks=pytest.mark.gpu)
DEVICES = pytest.mark.parametrize('device', ['cpu', GPU])
# those of the speed benchmark, and one pass each
SETTINGS = {**speed.SETTINGS, 'combined': {'ratio': 'combined'}, 'with term': {'ratio': 'combined', 'gamma': 0.5}}


@pytest.fixture(autouse=True)
def exact():
    """Convolve float32 in float32: by default a GPU does so in TF32."""
    torch.manual_seed(0)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _batch(device, count=8):
    return torch.randn(count, 3, 64, 64, device=device), torch.randint(0, 10, (count,), device=device)


def _task(device, setting, mode):
    return make_task(small_model().to(device), mode, **SETTINGS[setting])


def _steps(task, batches, optimizer, scaler=None):
    scaler, losses = scaler or torch.amp.GradScaler(enabled=False), []
    for images, labels in batches:
        loss = task(images, labels)['loss']
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.detach().clone())  # a CUDA graph writes the next loss over it
    return torch.stack(losses)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('policy', list(POLICIES))
@DEVICES
def test_the_same_draws_give_the_same_loss_and_gradient(device, policy, mode):
    mixup = SUMixMixup(policy=policy, mode=mode, num_classes=10)
    images, labels = _batch('cpu', 7)
    draws, model, found = mixup.draw(images), small_model(), []
    for where in ('cpu', device):
        task = SUMixTask(copy.deepcopy(model).to(where), mixup, verbose=False)
        moved = tree_map_only(torch.Tensor, lambda value, where=where: value.to(where), draws)
        result = task(*mixup.mix(images.to(where), labels.to(where), moved))
        result['loss'].backward()
        gradients = [parameter.grad.flatten() for parameter in task.get_trainable_module().parameters()]
        found.append([result['loss'], result['lam'], torch.cat(gradients)])
    for ours, expected in zip(*reversed(found)):
        torch.testing.assert_close(ours.cpu(), expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize('mode', ['pair', 'elem'])
@pytest.mark.parametrize('setting', list(SETTINGS))
@DEVICES
def test_half_precision_trains_with_a_scaler(device, setting, mode):
    task = _task(device, setting, mode)
    parameters = list(task.get_trainable_module().parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer, scaler = torch.optim.SGD(parameters, lr=0.1), torch.amp.GradScaler(device, init_scale=128.)
    with torch.autocast(device, torch.float16 if device == 'cuda' else torch.bfloat16):
        losses = _steps(task, [_batch(device) for _ in range(3)], optimizer, scaler)
    assert losses.isfinite().all() and all(parameter.isfinite().all() for parameter in parameters)
    assert all(not torch.equal(old, new) for old, new in zip(before, parameters))


@pytest.mark.parametrize('options', [{}, {'ratio': 'similarity', 'gamma': 0.5}], ids=str)
@pytest.mark.parametrize('mode', ['default', 'reduce-overhead'])  # the latter records CUDA graphs
@pytest.mark.parametrize('device', [pytest.param('cpu', marks=pytest.mark.slow), GPU])
def test_compiled_by_inductor_it_learns_the_same(device, mode, options):
    model, batches, losses = small_model().to(device), [_batch(device) for _ in range(3)], []
    for compiled in (False, True):
        torch.manual_seed(1)
        task = make_task(copy.deepcopy(model), 'pair', **options)
        optimizer = torch.optim.SGD(task.get_trainable_module().parameters(), lr=0.01)
        if compiled:
            task.compile(mode=mode)
        losses.append(_steps(task, batches, optimizer))
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize('mode', ['pair', 'elem'])
@pytest.mark.parametrize('setting', list(SETTINGS))
def test_no_step_waits_for_the_gpu(setting, mode):
    task = _task('cuda', setting, mode)
    optimizer = torch.optim.SGD(task.get_trainable_module().parameters(), lr=0.01)
    batches = [_batch('cuda') for _ in range(3)]
    _steps(task, batches, optimizer)
    torch.cuda.set_sync_debug_mode('error')
    try:
        _steps(task, batches, optimizer)
    finally:
        torch.cuda.set_sync_debug_mode('default')


@DEVICES
def test_a_default_step_takes_hardly_more_memory_than_timms(device):
    work = Workload('resnet18', batch_size=8, size=96, num_classes=10, device=torch.device(device))
    rows = measure(work, ['default'], repeats=2)
    assert rows[BASE]['memory'] == 1. and rows['default']['memory'] < 1.03
