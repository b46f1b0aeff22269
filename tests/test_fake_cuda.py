"""The training forward on pretended CUDA tensors: a mix of devices, or a value that the host reads, is an error.

torch's FakeTensorMode computes shapes, dtypes and devices alone, and needs no GPU.
"""
import pytest
import timm
import torch
from helpers import make_task
from timm.loss import BinaryCrossEntropy
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

import timm_sumix.mixing.mixup as mixing
from timm_sumix import SUMixOptions
from timm_sumix.correction import RATIOS
from timm_sumix.mixing import MODES
from timm_sumix.mixing.draws import Draws, Part
from timm_sumix.mixing.policies import POLICIES
from timm_sumix.mixing.policies.cutmix import CutMix
from timm_sumix.mixing.policies.mixup import MixUp

# in older ones autograd asks for the stream of a pretended tensor's device, and ends the process where no driver is
pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split('.')[:2])) < (2, 11), reason='older torch needs a GPU to pretend one')


@pytest.fixture(autouse=True)
def pretended_cuda(monkeypatch):
    """Enter FakeTensorMode with CUDA as the default device, under autocast to float16."""
    with torch.library._scoped_library('aten', 'FRAGMENT') as library:
        torch.library.register_fake(
            'aten::_sample_dirichlet', lambda x, generator=None: torch.empty_like(x), lib=library)
        monkeypatch.setattr(mixing, 'draw_for_batch', _draw_for_batch)
        torch.set_autocast_enabled('cuda', True)  # torch.autocast turns itself off where there is no GPU
        torch.set_autocast_dtype('cuda', torch.float16)
        try:
            with FakeTensorMode(), torch.device('cuda'):
                yield
        finally:
            torch.set_autocast_enabled('cuda', False)


class _NoTransfers(TorchDispatchMode):
    """Makes an error of every copy between the host and the device, for which one waits for the other."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.name().split('::')[1] in ('copy_', '_to_copy'):
            source = args[1] if function.name().split('::')[1] == 'copy_' else args[0]
            assert source.device.type == result.device.type, f'{function} from {source.device} to {result.device}'
        return result


def _draw_for_batch(policies, probs, prob, x):
    """Draw from the last policy; what it draws on the host has no values in this mode, and is drawn out of it."""
    policy = policies[-1]
    if not isinstance(policy, (CutMix, MixUp)):
        return Draws([Part(policy, policy.draw(1, x, len(x)))])
    with unset_fake_temporarily(), torch.device('cpu'):
        return Draws([Part(policy, policy.draw(1, x, len(x)))])


def _pretend(module):
    for part in module.modules():
        for tensors, kind in ((part._parameters, torch.nn.Parameter), (part._buffers, lambda tensor: tensor)):
            for key, tensor in tensors.items():
                if tensor is not None:
                    tensors[key] = kind(torch.empty(tensor.shape, dtype=tensor.dtype))


def _step(model='test_resnet', size=96, criterion=None, options=None, masked=False, model_kwargs=None, **mixup):
    with unset_fake_temporarily(), torch.device('cpu'):  # values are read when a model is made, and prepared
        model = timm.create_model(model, num_classes=10, **(model_kwargs or {}))
        task = make_task(model, mixup=mixup, criterion=criterion, **(options or {}))
        task.prepare(torch.randn(1, 3, size, size))
    _pretend(task.get_trainable_module())
    for count in (5, 4):
        x, labels = torch.randn(count, 3, size, size), torch.randint(0, 10, (count,))
        with _NoTransfers():
            result = task(*task.mixup(x, labels, torch.rand(count, 1, size, size))) if masked else task(x, labels)
        assert {value.device.type for value in result.values()} == {'cuda'}
        assert result['output'].dtype == torch.float16 and result['loss'].dtype == torch.float32


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('policy', [None, *POLICIES, list(POLICIES)], ids=str)
def test_every_policy_stays_on_the_device_with_and_without_masks_of_objects(policy, mode, masked):
    _step(policy=policy, mode=mode, prob=0.5, masked=masked)


@pytest.mark.parametrize('options', [
    *({'ratio': ratio} for ratio in RATIOS), {'gamma': 0.5}, {'ratio': 'similarity', 'gamma': 0.5},
    {'original_pass': 'no-grad'}, SUMixOptions.preset('paper').__dict__, SUMixOptions.preset('released').__dict__,
    {'ratio': 'released', 'gamma': 0.5, 'uncertainty': 'logits'}], ids=str)
@pytest.mark.parametrize('mode', ['pair', 'elem'])
def test_every_setting_stays_on_the_device(options, mode):
    _step(mode=mode, options=options)


@pytest.mark.parametrize('kwargs', [
    {'model': 'test_vit', 'size': 160}, {'model': 'test_convnext'}, {'model': 'swin_s3_tiny_224', 'size': 224},
    *({'model': 'test_vit', 'size': 160, 'model_kwargs': {'global_pool': 'avg'}, 'options': options}
      for options in ({}, {'gamma': 0.5})),  # logits of tokens
    {'criterion': BinaryCrossEntropy()}], ids=str)
@pytest.mark.parametrize('mode', ['pair', 'elem'])
def test_maps_of_every_kind_and_a_binary_criterion_stay_on_the_device(kwargs, mode):
    _step(mode=mode, **kwargs)


def _assigns_a_number(mixed, original, target):
    lam = target.lam.clone()
    lam[0] = 0.5
    return lam


@pytest.mark.parametrize('ratio, error, message', [
    (lambda mixed, original, target: target.lam * float(target.lam.mean()), DataDependentOutputException, None),
    (_assigns_a_number, AssertionError, 'from cpu to cuda'),
    (lambda mixed, original, target: target.lam * torch.rand(len(target), device='cpu'), RuntimeError,
     'two (different )?devices')])
def test_what_makes_the_host_wait_or_mixes_devices_is_found(ratio, error, message):
    with pytest.raises(error, match=message):
        _step(mode='elem', options={'ratio': ratio, 'original_pass': 'none'})
