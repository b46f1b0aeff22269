"""The passes: a model is called as it is, and what it does not tell is an error once it is read."""
import copy

import pytest
import torch
from helpers import make_task, random_images, small_model
from timm.task import ClassificationTask
from timm.utils import ModelEmaV3
from torch import nn

from timm_sumix import MixedTarget, Ratio, SUMixMixup, SUMixOptions, correct
from timm_sumix.correction import RATIOS
from timm_sumix.mixing import MODES

OPTIONS = [
    *({'ratio': ratio} for ratio in RATIOS), {'gamma': 0.5}, {'ratio': 'combined', 'original_pass': 'no-grad'},
    {'ratio': 'evidence', 'original_pass': 'no-grad'},
    {'ratio': 'similarity', 'gamma': 0.5, 'original_pass': 'grad'}]


def _mixed():
    return SUMixMixup(0., 1., mode='pair', num_classes=10)(*random_images())


def _compile(task, how):
    """Return the task, compiled in one of the ways in which a user may do it."""
    torch._dynamo.reset()
    if how == 'task.compile':
        task.compile(backend='eager')
    elif how == 'trainable_module':
        task.trainable_module = torch.compile(task.trainable_module, backend='eager')
    return torch.compile(task, backend='eager') if how == 'task' else task


@pytest.mark.parametrize('register', [
    'register_forward_hook', 'register_forward_pre_hook', 'register_full_backward_hook',
    'register_full_backward_pre_hook'])
@pytest.mark.parametrize('how', ['eager', 'task.compile'])
def test_hooks_of_the_model_itself_are_refused_and_those_of_its_parts_called(register, how):
    model, calls = small_model(), []
    task = make_task(model)
    task.prepare(random_images()[0])
    getattr(model.conv1, register)(lambda *_: calls.append(1) and None)
    _compile(task, how)(*random_images())['loss'].backward()
    assert calls == [1]
    getattr(model, register)(lambda *_: None)
    with pytest.raises(ValueError, match='has hooks of its own, which would be left out: put them on modules'):
        _compile(make_task(model), how)(*random_images())


class _Scaling(nn.Module):
    """A timm model with a forward of its own, which changes its input."""

    def __init__(self):
        super().__init__()
        self.inner = small_model()
        self.num_classes, self.num_features = 10, self.inner.num_features
        self.forward_features, self.forward_head = self.inner.forward_features, self.inner.forward_head

    def forward(self, x):
        return self.forward_head(self.forward_features(3. * x))


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_a_forward_of_the_models_own_is_trained_where_no_part_is_read_and_refused_elsewhere(options):
    model = _Scaling().eval()
    task = make_task(model, **options)
    mixed, target = task.mixup(*random_images())
    if options.get('ratio') in ('area', 'released') and 'gamma' not in options:
        torch.testing.assert_close(task(mixed, target)['output'], model(mixed))
        return
    for run in (
            task.prepare, lambda images: task(images, target),
            lambda images: _compile(task, 'task')(images, target)):
        with pytest.raises(ValueError, match='the forward of _Scaling does more than forward_head.forward'):
            run(mixed)


@pytest.mark.parametrize('options, mode', [
    *(({}, mode) for mode in MODES), ({'ratio': 'area'}, 'pair'), ({'ratio': 'combined', 'gamma': 0.5}, 'elem')],
    ids=str)
def test_a_compiled_step_is_two_graphs_of_the_passes_and_of_ratio_and_loss(options, mode):
    torch._dynamo.reset()
    losses, graphs = [], []
    for compiled in (False, True):
        torch.manual_seed(0)
        task = make_task(small_model(), mode, **options)
        if compiled:
            task.compile(backend=lambda graph, inputs: graphs.append(graph) or graph, fullgraph=True)
        for _ in range(4):
            loss = task(*random_images())['loss']
            loss.backward()
        assert len(graphs) == 2 * compiled
        losses.append(loss + task(*random_images(4))['loss'])  # an epoch's last batch: still whole graphs
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize('wrap, message', [
    (torch.compile, 'got one compiled .*task.compile'),
    (ModelEmaV3, 'got ModelEmaV3 around it: give its .module'),
    (nn.DataParallel, 'got DataParallel around it: give its .module'),
    # timm 1.0.27 and 1.0.28 have no default criterion
    (lambda model: ClassificationTask(model, nn.CrossEntropyLoss(), verbose=False),
     'got ClassificationTask .of a task, give task.get_eval_model'),
    (lambda model: model.forward, 'must be a timm model, got method'),
])
def test_what_wraps_a_model_is_refused_with_what_to_give(wrap, message):
    wrapped = wrap(small_model())
    for options in ({}, {'ratio': 'similarity', 'original_pass': 'no-grad'}):
        with pytest.raises(TypeError, match=message):
            make_task(wrapped, **options)
        with pytest.raises(TypeError, match=message):
            correct(wrapped, *_mixed(), SUMixOptions(**options))


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_correct_gives_the_shares_of_the_task_and_leaves_the_model_alone(options):
    model, (mixed, target) = small_model().eval(), _mixed()
    before = copy.deepcopy(model.state_dict())
    lam = correct(model, mixed, target, SUMixOptions(**options))
    torch.testing.assert_close(lam, make_task(model, **options)(mixed, target)['lam'])
    assert not lam.requires_grad and not model.training and 'forward_features' not in vars(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    whole = MixedTarget(target.labels, None, 10)
    assert torch.equal(correct(model, mixed, whole, SUMixOptions(**options)), whole.lam)


def test_what_a_target_lacks_is_said():
    mixed, target = _mixed()
    bare = MixedTarget(target.labels, target.lam, 10, original=target.original)
    for run in (lambda **options: correct(small_model(), mixed, bare, SUMixOptions(**options)),
                lambda **options: make_task(small_model(), **options)(mixed, bare)['lam']):
        with pytest.raises(ValueError, match="to unmix, target.mask must be .* or use original_pass 'no-grad'"):
            run()
        assert not torch.allclose(run(original_pass='no-grad'), target.lam)
        assert torch.equal(run(ratio='area'), target.lam)
    target.original = None
    with pytest.raises(ValueError, match="a second pass needs target.original, .* got None: or original_pass 'none'"):
        correct(small_model(), mixed, target, SUMixOptions(original_pass='no-grad'))


# Functions of one's own

class _Logits(nn.Sequential):
    """A model of both parts, without a map or a number of features."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
        self.forward_features = self[0].forward

    def forward_head(self, x, pre_logits=False):
        return self[1](x)


@pytest.mark.parametrize('create, original_pass, lacking', [
    (small_model, 'none', set()), (small_model, 'no-grad', set()), (_Logits, 'no-grad', set()),
    (lambda: small_model('test_vit', img_size=32), 'none', set()),
    (_Logits, 'none', {'unmixed logits', 'unmixed features', 'unmixed evidence'})])
def test_a_function_of_ones_own_is_given_all_that_a_model_has_and_none_of_what_it_lacks(create, original_pass, lacking):
    given = {}

    def reads(mixed, original, target):
        given.update({'mixed': mixed, 'unmixed': original})
        return (target.lam + 0.5) / 2

    (mixed, target), model = _mixed(), create()
    result = make_task(model, ratio=reads, original_pass=original_pass)(mixed, target)
    result['loss'].backward()
    torch.testing.assert_close(result['lam'], (target.lam + 0.5) / 2)
    torch.testing.assert_close(given['mixed'].logits, model(mixed))
    if original_pass == 'no-grad':
        torch.testing.assert_close(given['unmixed'].logits, model(target.original))
    found = {
        f'{which} {name}' for which, output in given.items() for name, value in output._asdict().items()
        if value is None}
    of_neither = {f'{which} {name}' for which in ('mixed', 'unmixed') for name in ('uncertainty', 'distilled')}
    assert found == {'mixed evidence', *of_neither, *lacking}


class _Nearer(Ratio):
    needs = ('features',)

    def __init__(self):
        self.seen = []

    def shares(self, mixed, original, target):
        self.seen.append((mixed, original))
        nearer = (mixed.features - target.partner(original.features)).norm(dim=1) - (
            mixed.features - original.features).norm(dim=1)
        return torch.sigmoid(torch.logit(target.lam) + nearer)


@pytest.mark.parametrize('original_pass', ['none', 'no-grad'])
def test_a_ratio_of_ones_own_is_given_what_it_reads_and_no_more(original_pass):
    ratio, (mixed, target) = _Nearer(), _mixed()
    lam = make_task(small_model(), ratio=ratio, original_pass=original_pass)(mixed, target)['lam']
    (mixed_output, original), = ratio.seen
    assert mixed_output.evidence is None and original.evidence is None and original.features.ndim == 2
    assert (original.logits is None) == (original_pass == 'none') and not torch.allclose(lam, target.lam)
    with pytest.raises(TypeError, match='Linear lacks'):
        make_task(nn.Linear(3, 10), ratio=ratio, original_pass=original_pass)
