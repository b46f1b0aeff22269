"""Two processes compute what one does on the same samples, for a model whose samples do not see each other."""
import pytest
import timm
import torch
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from timm.task import FeatureDistillationTask, LogitDistillationTask

from timm_sumix import MixedTarget, SUMixDistillationTask, SUMixMixup, SUMixTask
from timm_sumix.region import Mixing

SETTINGS = {
    'default': {},
    'two passes': {'original_pass': 'no-grad'},
    'feature': {'ratio': 'feature'},
    'similarity': {'ratio': 'similarity'},
    'area': {'ratio': 'area'},
    'term': {'gamma': 0.5},
    'term of two passes': {'gamma': 0.5, 'original_pass': 'grad'},
    'term without gradient': {'gamma': 0.5, 'original_pass': 'no-grad'},
    'term alone': {'ratio': 'area', 'gamma': 0.5},
    'binary': {'criterion': BinaryCrossEntropy()},
    'distilled': {'distillation': LogitDistillationTask, 'gamma': 0.5},
    'features distilled': {'distillation': FeatureDistillationTask},
}
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
    model = timm.create_model('test_vit', num_classes=4, img_size=32, global_pool='avg', class_token=False)
    mixup = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., num_classes=4)
    task = _create_task(model, mixup, **SETTINGS[setting])
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


def _create_task(model, mixup, distillation=None, **kwargs):
    if distillation is None:
        return SUMixTask(model, mixup, verbose=False, **kwargs)
    teacher = timm.create_model('test_vit2', num_classes=4, img_size=32, global_pool='avg', class_token=False)
    own = distillation(model, teacher, SoftTargetCrossEntropy(), verbose=False)
    return SUMixDistillationTask(own, mixup, verbose=False, **kwargs)


def _process(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    rows = slice(rank * SIZE // 2, (rank + 1) * SIZE // 2)
    torch.save({setting: _gradients(setting, rows) for setting in SETTINGS}, f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()


def _uneven_process(rank, folder, options):
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/uneven', rank=rank, world_size=2)
    torch.manual_seed(0)
    model = timm.create_model('test_resnet', num_classes=4, output_stride=8)
    task = SUMixTask(model, SUMixMixup(0., 1., num_classes=4), verbose=False, **options)
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
    weights = torch.cat([parameter.detach().flatten() for parameter in task.get_trainable_module().parameters()])
    average = torch.cat([value.flatten() for value in task.get_trainable_module(ema=True).parameters()])
    metrics = task.pop_metrics().values()
    torch.save([weights, average, *metrics], f'{folder}/uneven{rank}')
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('options', [
    {}, {'gamma': 0.5}, {'original_pass': 'no-grad'}, {'gamma': 0.5, 'original_pass': 'grad'}], ids=str)
def test_processes_stay_equal_where_batches_differ_in_size_and_in_being_mixed(tmp_path, options):
    torch.multiprocessing.spawn(_uneven_process, (tmp_path, options), nprocs=2)
    first, second = (torch.load(tmp_path / f'uneven{rank}', weights_only=False) for rank in (0, 1))
    assert all(torch.equal(torch.as_tensor(one), torch.as_tensor(other)) for one, other in zip(first, second))
    assert first[0].isfinite().all() and len(first) == 7  # five metrics


@pytest.fixture(scope='module')
def of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp('distributed')
    torch.multiprocessing.spawn(_process, (folder,), nprocs=2)
    return [torch.load(folder / f'{rank}.pt') for rank in (0, 1)]


@pytest.mark.parametrize('setting', list(SETTINGS))
def test_two_processes_give_the_gradients_of_one(of_two, setting):
    expected = _gradients(setting, slice(None))
    assert len(expected) == STEPS and expected[0].norm() > 0
    for step, gradient in enumerate(expected):
        for found in of_two:
            assert (found[setting][step] - gradient).norm() < 1e-5 * gradient.norm()
