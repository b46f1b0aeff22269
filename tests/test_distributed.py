"""Two processes compute what one does on the same samples, for a model whose samples do not see each other."""
from functools import partial

import pytest
import timm
import torch
from helpers import make_task, small_model
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from timm.task import FeatureDistillationTask, LogitDistillationTask

from timm_sumix import MixedTarget, SUMixDistillationTask, SUMixMixup, SUMixTask
from timm_sumix.region import Mixing

SETTINGS = {
    'default': {}, 'two passes': {'ratio': 'combined', 'original_pass': 'no-grad'}, 'term': {'gamma': 0.5},
    'term of two passes': {'gamma': 0.5, 'original_pass': 'grad'},
    'term without gradient': {'gamma': 0.5, 'original_pass': 'no-grad'},
    'binary': {'criterion': BinaryCrossEntropy(), 'ratio': 'evidence'},
    'distilled': {'distillation': LogitDistillationTask, 'gamma': 0.5},
    'features distilled': {'distillation': FeatureDistillationTask}}
STEPS = 3
SIZE = 8  # samples a step, of all processes


def _batch(step, rows):
    """Return some rows of a mixed batch; partners are two neighbours, so that a process has both.

    In odd steps the two share a mask.
    """
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(SIZE, 3, 32, 32, generator=generator)
    mask = torch.rand(SIZE, 1, 4, 4, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3) < 0.6
    labels, partner, shared = torch.arange(SIZE) % 3, torch.arange(SIZE) ^ 1, step % 2 == 1
    mask = mask[torch.arange(SIZE) // 2 * 2] if shared else mask
    mixed = torch.where(mask, images, images[partner])[rows]
    index = torch.arange(len(mixed)) ^ 1
    mixing = Mixing(len(mixed), mask[rows], index=index, complementary=shared)
    lam = mask.float().mean((1, 2, 3))[rows]
    return mixed, MixedTarget(labels[rows], lam, 4, index=index, original=images[rows], mask=mixing)


def _gradients(setting, rows):
    """Return the gradients [P] of each step of SGD on some rows of the batches."""
    torch.manual_seed(0)
    # its head reads the map, so that logits can be unmixed
    student, teacher = (
        timm.create_model(name, num_classes=4, img_size=32, global_pool='avg', class_token=False)
        for name in ('test_vit', 'test_vit2'))
    options, mixup = dict(SETTINGS[setting]), SUMixMixup(mixup_alpha=0., cutmix_alpha=1., num_classes=4)
    distillation = options.pop('distillation', None)
    if distillation:
        own = distillation(student, teacher, SoftTargetCrossEntropy(), verbose=False)
        task = SUMixDistillationTask(own, mixup, verbose=False, **options)
    else:
        task = SUMixTask(student, mixup, verbose=False, **options)
    if torch.distributed.is_initialized():
        task.prepare_distributed(device_ids=[torch.device('cpu')])
    parameters = list(task.get_trainable_module().parameters())
    optimizer, steps = torch.optim.SGD(parameters, lr=0.1), []
    for step in range(STEPS):
        optimizer.zero_grad()
        task(*_batch(step, rows))['loss'].backward()
        steps.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
        optimizer.step()
    return steps


def _process(rank, folder, run):
    """Save what run(rank) returns, as one of two processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    torch.save(run(rank), f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()


def _run_two(run, folder):
    """Return what run(rank) returns in each of two processes."""
    torch.multiprocessing.spawn(_process, (folder, run), nprocs=2)
    return [torch.load(folder / f'{rank}.pt', weights_only=False) for rank in (0, 1)]


def _all_gradients(rank):
    return {setting: _gradients(setting, slice(rank * SIZE // 2, (rank + 1) * SIZE // 2)) for setting in SETTINGS}


def _train_unevenly(options, rank):
    torch.manual_seed(0)
    model = small_model(num_classes=4)
    task = make_task(model, 'batch', {'num_classes': 4}, **options)
    task.setup_ema(decay=0.5)
    task.prepare_distributed(device_ids=[torch.device('cpu')], broadcast_buffers=False)
    optimizer = torch.optim.SGD(task.get_trainable_module().parameters(), lr=0.1)
    assert list(task.get_checkpoint_state()['state_dict']) == list(model.state_dict())
    for step, count in enumerate((4, 3 - 2 * rank, 2, 2, 2)):  # 3 and 1 images in the second step
        task.mixup.mixup_enabled = step in (0, 1, 3) or step == 2 and rank == 0  # in one step one process alone mixes
        torch.manual_seed(2 * step + rank)
        task(torch.randn(count, 3, 32, 32), torch.arange(count))['loss'].backward()
        optimizer.step()
        optimizer.zero_grad()
        task.update_ema(step=step)
    weights, average = (
        torch.cat([value.detach().flatten() for value in task.get_trainable_module(ema=ema).parameters()])
        for ema in (False, True))
    return [weights, average, *task.pop_metrics().values()]


@pytest.mark.parametrize('options', [{}, {'gamma': 0.5}, {'gamma': 0.5, 'original_pass': 'grad'}], ids=str)
def test_processes_stay_equal_where_batches_differ_in_size_and_in_being_mixed(tmp_path, options):
    first, second = _run_two(partial(_train_unevenly, options), tmp_path)
    assert all(torch.equal(torch.as_tensor(one), torch.as_tensor(other)) for one, other in zip(first, second))
    assert first[0].isfinite().all() and len(first) == 7  # five metrics


@pytest.fixture(scope='module')
def of_two(tmp_path_factory):
    return _run_two(_all_gradients, tmp_path_factory.mktemp('distributed'))


@pytest.mark.parametrize('setting', list(SETTINGS))
def test_two_processes_give_the_gradients_of_one(of_two, setting):
    expected = _gradients(setting, slice(None))
    assert len(expected) == STEPS and expected[0].norm() > 0
    for step, gradient in enumerate(expected):
        for found in of_two:
            assert (found[setting][step] - gradient).norm() < 1e-5 * gradient.norm()
