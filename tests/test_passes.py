"""The passes: a model is called as it is, and what it does not tell is an error once it is read."""
import copy

import pytest
import timm
import torch
from timm.task import ClassificationTask
from timm.utils import ModelEmaV3
from torch import nn

from timm_sumix import MixedTarget, Ratio, SUMixMixup, SUMixOptions, SUMixTask, correct
from timm_sumix.correction import RATIOS
from timm_sumix.mixing import MODES

OPTIONS = [
    *({'ratio': ratio} for ratio in RATIOS), {'gamma': 0.5}, {'clean': 0.5}, {'original_pass': 'no-grad'},
    {'ratio': 'evidence', 'original_pass': 'no-grad'},
    {'ratio': 'similarity', 'gamma': 0.5, 'original_pass': 'grad'}]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def _model(**kwargs):
    return timm.create_model('test_resnet', num_classes=10, output_stride=8, **kwargs)


def _mixup(mode='pair'):
    return SUMixMixup(0., 1., mode=mode, num_classes=10)


def _task(model, **options):
    return SUMixTask(model, _mixup(), verbose=False, **options)


def _images(count=6):
    return torch.randn(count, 3, 32, 32), torch.arange(count)


class _Normalising(nn.Module):
    """A timm model with a forward of its own, which normalises its input, and may scale its output."""

    def __init__(self, scale=1.):
        super().__init__()
        self.scale, inner = scale, _model()
        self.num_classes, self.num_features, self.pretrained_cfg = 10, inner.num_features, inner.pretrained_cfg
        self.inner = inner

    def forward_features(self, x):
        return self.inner.forward_features(x)

    def forward_head(self, x, pre_logits=False):
        return self.inner.forward_head(x, pre_logits=pre_logits)

    def forward(self, x):
        return self.scale * self.forward_head(self.forward_features((x - 0.5) / 0.1))


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_hooks_of_the_model_are_called_once_a_pass_and_may_change_its_output(options):
    model = _model().eval()
    task = _task(model, **options)
    passes = 1 if task.criterion.options.resolved_pass == 'none' else 2
    mixed, target = task.mixup(*_images())
    expected, calls = model(mixed), []
    model.register_forward_pre_hook(lambda _, inputs: calls.append('before') or (2. * inputs[0],))
    model.register_forward_hook(lambda _, inputs, output: calls.append('after') or 3. * output)
    for _ in range(2):
        result = task(mixed, target)
    assert calls == ['before', 'after'] * 2 * passes
    assert torch.equal(result['output'], model(mixed)) and not torch.allclose(result['output'], expected)


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_a_forward_of_the_models_own_is_what_is_trained(options):
    torch.manual_seed(0)
    needs_logits = options.get('original_pass') is None and (
        'gamma' in options or options.get('ratio') == 'similarity')
    if needs_logits:  # what comes after the head cannot be known of unmixed logits
        with pytest.raises(ValueError, match='needs logits of the unmixed images, which cannot be unmixed'):
            _task(_Normalising(2.), **options)
    model = _Normalising(1. if needs_logits else 2.).eval()
    task = _task(model, **options)
    mixed, target = task.mixup(*_images())
    result = task(mixed, target)
    assert torch.equal(result['output'], model(mixed))
    assert not torch.allclose(result['output'], model.inner(mixed), atol=1e-2)
    # the maps are those of the normalised images
    plain = (mixed - 0.5) / 0.1, MixedTarget(
        target.labels, target.lam, 10, original=(target.original - 0.5) / 0.1, mask=target.mixing)
    if options.get('ratio') in ('evidence', 'feature'):  # of the maps alone, so that the scale after them is no matter
        inner = correct(model.inner, *plain, SUMixOptions(**options))
        torch.testing.assert_close(result['lam'], inner)
        assert not torch.allclose(inner, correct(model.inner, mixed, target, SUMixOptions(**options)), atol=1e-4)


class _Flipping(_Normalising):
    def forward(self, x):
        return super().forward(x) + super().forward(x.flip(-1))


class _Scaling(_Normalising):
    """Its forward changes its input in a way that images of zeros would hide."""

    def forward(self, x):
        return self.forward_head(self.forward_features(3. * x))


def test_a_model_that_calls_forward_features_twice_keeps_the_area_and_it_is_said(caplog):
    task = _task(_Flipping())
    assert 'calls forward_features 2 times' in caplog.text
    mixed, target = task.mixup(*_images())
    torch.testing.assert_close(task(mixed, target)['lam'], target.lam)


@pytest.mark.parametrize('kind', [_Scaling, _Normalising])
def test_compile_refuses_a_forward_that_changes_its_input(kind):
    with pytest.raises(ValueError, match='a forward of its own, which the compiled task would leave out'):
        _task(kind()).compile(backend='eager')
    _task(_model()).compile(backend='eager')


def test_looking_for_the_map_leaves_no_module_in_eval_mode():
    model, modes = _model().train(), []
    before = model.conv1.train

    def train(mode=True):
        modes.append(mode)
        return before(mode)

    model.conv1.train = train  # as those of timm 1.0.27 that clear in it what they keep for eval mode
    _task(model)
    assert modes == [False, True] and model.conv1.training


class _Bypassing(_Normalising):
    def forward(self, x):
        return self.inner(x)


def test_a_forward_that_leaves_out_forward_features_keeps_the_area_or_says_what_it_must_call(caplog):
    task = _task(_Bypassing())
    assert 'calls forward_features 0 times' in caplog.text and 'by area' in caplog.text
    mixed, target = task.mixup(*_images())
    result = task(mixed, target)
    torch.testing.assert_close(result['lam'], target.lam)
    result = _task(_Bypassing(), ratio='similarity', original_pass='no-grad')(mixed, target)
    assert not torch.allclose(result['lam'], target.lam)
    with pytest.raises(TypeError, match='the forward of _Bypassing must call forward_features'):
        _task(_Bypassing(), ratio='similarity', gamma=0.5, original_pass='grad')(mixed, target)


@pytest.mark.parametrize('options', [
    {}, {'ratio': 'similarity', 'gamma': 0.5}, {'ratio': 'area'}, {'clean': 0.5}], ids=str)
def test_a_model_compiled_beforehand_by_its_own_compile_is_used_as_it_is(options):
    torch._dynamo.reset()
    plain, graphs = _task(_model(), **options), []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = copy.deepcopy(plain)
    compiled.get_eval_model().compile(backend=count)
    mixed, target = plain.mixup(*_images())
    seen = []
    for _ in range(12):
        results = [task(mixed, target) for task in (plain, compiled)]
        torch.testing.assert_close(*(result['loss'] for result in results))
        results[1]['loss'].backward()
        seen.append(len(graphs))
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 11):
        pytest.skip(f'torch {torch.__version__} compiles anew in each step: task.compile() is the way there')
    assert seen[0] > 0 and seen[-1] == seen[0]  # one graph, not one a step


@pytest.mark.parametrize('options, mode', [
    *(({}, mode) for mode in MODES), ({'fade': 0.6}, 'pair'), ({'ratio': 'area'}, 'pair'),
    ({'ratio': 'similarity', 'gamma': 0.5}, 'elem'), ({'clean': 0.5}, 'pair')], ids=str)
def test_a_compiled_step_is_two_graphs_of_the_passes_and_of_ratio_and_loss(options, mode):
    torch._dynamo.reset()
    losses, graphs = [], []
    for compiled in (False, True):
        torch.manual_seed(0)
        task = SUMixTask(_model(), _mixup(mode), verbose=False, **options)
        if compiled:
            task.compile(backend=lambda graph, inputs: graphs.append(graph) or graph, fullgraph=True)
        for _ in range(4):
            loss = task(*_images())['loss']
            loss.backward()
        losses.append(loss)
        assert len(graphs) == 2 * compiled
        losses[-1] = losses[-1] + task(*_images(4))['loss']  # an epoch's last batch: still whole graphs
    torch.testing.assert_close(*losses)


def test_compile_refuses_what_it_would_leave_out():
    hooked = _model()
    hooked.register_forward_hook(lambda *_: None)
    for model in (hooked, _Normalising()):
        with pytest.raises(ValueError, match=f'{type(model).__name__} has hooks or a forward of .*model.compile'):
            _task(model).compile(backend='eager')


def _distributed(model, folder):
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=0, world_size=1)
    try:
        return nn.parallel.DistributedDataParallel(model)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize('wrap, message', [
    (lambda model, _: torch.compile(model), 'got one compiled .*task.compile'),
    (_distributed, 'got DistributedDataParallel around it: give its .module'),
    (lambda model, _: ModelEmaV3(model), 'got ModelEmaV3 around it: give its .module'),
    (lambda model, _: nn.DataParallel(model), 'got DataParallel around it: give its .module'),
    (lambda model, _: _task(model), 'got SUMixTask .of a task, give task.get_eval_model'),
    # timm 1.0.27 and 1.0.28 have no default criterion
    (lambda model, _: ClassificationTask(model, nn.CrossEntropyLoss(), verbose=False),
     'got ClassificationTask .of a task, give task.get_ev'),
    (lambda model, _: model.forward, 'must be a timm model, got method'),
])
def test_what_wraps_a_model_is_refused_with_what_to_give(tmp_path, wrap, message):
    wrapped = wrap(_model(), tmp_path)
    mixed, target = _mixup()(*_images())
    for options in ({}, {'ratio': 'similarity', 'original_pass': 'no-grad'}):
        with pytest.raises(TypeError, match=message):
            _task(wrapped, **options)
        with pytest.raises(TypeError, match=message):
            correct(wrapped, mixed, target, SUMixOptions(**options))


@pytest.mark.parametrize('mode', ['pair', 'elem'])
@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_correct_gives_the_shares_of_the_task_and_leaves_the_model_alone(options, mode):
    model = _model().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mixed, target = _mixup(mode)(*_images())
    lam = correct(model, mixed, target, SUMixOptions(**options))
    torch.testing.assert_close(lam, _task(model, **options)(mixed, target)['lam'])
    assert not lam.requires_grad and not model.training and 'forward_features' not in vars(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    whole = MixedTarget(target.labels, None, 10)
    assert torch.equal(correct(model, mixed, whole, SUMixOptions(**options)), whole.lam)


def test_what_a_target_lacks_is_said():
    mixed, target = _mixup()(*_images())
    bare = MixedTarget(target.labels, target.lam, 10, original=target.original)
    for run in (lambda **options: correct(_model(), mixed, bare, SUMixOptions(**options)),
                lambda **options: _task(_model(), **options)(mixed, bare)['lam']):
        for options in ({}, {'ratio': 'similarity'}):
            with pytest.raises(ValueError, match="to unmix, target.mask must be .* or use original_pass 'no-grad'"):
                run(**options)
        assert not torch.allclose(run(ratio='similarity', original_pass='no-grad'), target.lam)
        assert torch.equal(run(ratio='area'), target.lam)
    target.original = None
    with pytest.raises(ValueError, match="a second pass needs target.original, .* got None: or original_pass 'none'"):
        correct(_model(), mixed, target, SUMixOptions(original_pass='no-grad'))


# Functions of one's own

def _all(mixed, original, target):
    for output in (mixed, original):
        assert output.logits.shape == (6, 10) and output.features.ndim == 2 and output.evidence.shape == (6, 4, 4)
    return (target.lam + 0.5) / 2


@pytest.mark.parametrize('original_pass', ['none', 'no-grad'])
def test_a_function_of_ones_own_is_told_all_of_both_images(original_pass):
    mixed, target = _mixup()(*_images())
    result = _task(_model(), ratio=_all, original_pass=original_pass)(mixed, target)
    torch.testing.assert_close(result['lam'], (target.lam + 0.5) / 2)


class _Plain(nn.Sequential):
    """A model without forward_features."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))


def _by_logits(mixed, original, target):
    first = (mixed.logits - original.logits).norm(dim=1)
    return torch.sigmoid(target.lam.logit() - first + (mixed.logits - target.partner(original.logits)).norm(dim=1))


@pytest.mark.parametrize('options', [{}, {'gamma': 0.5, 'uncertainty': 'logits'}], ids=str)
def test_a_function_that_reads_logits_alone_needs_no_more_of_a_model(options):
    model = _Plain()
    task = _task(model, ratio=_by_logits, original_pass='no-grad', **options)
    mixed, target = task.mixup(*_images())
    result = task(mixed, target)
    result['loss'].backward()
    z, z_mix = model(target.original), model(mixed)
    distances = (z_mix - z).norm(dim=1), (z_mix - z.flip(0)).norm(dim=1)
    torch.testing.assert_close(result['lam'], torch.sigmoid(target.lam.logit() - distances[0] + distances[1]).detach())
    torch.testing.assert_close(
        correct(model, mixed, target, SUMixOptions(_by_logits, original_pass='no-grad')), result['lam'])
    by_area = _task(model, ratio=lambda mixed, original, target: target.lam)(mixed, target)
    assert torch.equal(by_area['lam'], target.lam)


@pytest.mark.parametrize('model, options, field, which', [
    (_Plain, {'original_pass': 'no-grad'}, 'features', 'mixed'), (_Plain, {}, 'logits', 'unmixed'),
    (_Plain, {'original_pass': 'no-grad'}, 'evidence', 'unmixed'), (_Plain, {}, 'evidence', 'mixed'),
    (_Bypassing, {'original_pass': 'no-grad'}, 'evidence', 'unmixed'), (_Bypassing, {}, 'features', 'unmixed'),
    (lambda: timm.create_model('test_vit', num_classes=10, img_size=32), {}, 'logits', 'unmixed'),
    (_model, {}, 'uncertainty', 'mixed'),
])
def test_a_function_that_reads_what_a_model_does_not_tell_is_told_so(model, options, field, which):
    def reads(mixed, original, target):
        return getattr(mixed if which == 'mixed' else original, field).flatten(1).mean(1).sigmoid()

    task = _task(model(), ratio=reads, **options)
    with pytest.raises(ValueError, match=f"ratio 'reads' reads {field} of the {which} images, which .* does not tell"):
        task(*_images())


class _Nearer(Ratio):
    reads = ('features',)
    reads_mixed = ('features',)

    def distances(self, mixed, original, target):
        return (mixed.features - original.features).norm(dim=1), (
            mixed.features - target.partner(original.features)).norm(dim=1)


@pytest.mark.parametrize('original_pass', ['none', 'no-grad'])
def test_a_ratio_of_ones_own_is_given_what_it_reads_and_no_more(monkeypatch, original_pass):
    seen, distances = [], _Nearer.distances
    monkeypatch.setattr(_Nearer, 'distances', lambda self, *parts: seen.append(parts) or distances(self, *parts))
    mixed, target = _mixup()(*_images())
    lam = _task(_model(), ratio=_Nearer(), original_pass=original_pass)(mixed, target)['lam']
    (mixed_output, original, _), = seen
    assert mixed_output.evidence is None and original.evidence is None and original.features.ndim == 2
    assert (original.logits is None) == (original_pass == 'none') and not torch.allclose(lam, target.lam)
    with pytest.raises(TypeError, match='_Plain lacks'):
        _task(_Plain(), ratio=_Nearer(), original_pass=original_pass)
