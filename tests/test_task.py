"""The task: against timm's ClassificationTask, and in all that a train script does with a task."""
import copy
import re

import pytest
import timm
import torch
from conftest import ROOT
from timm.data import Mixup
from timm.loss import BinaryCrossEntropy
from timm.optim import create_optimizer_v2, list_optimizers
from timm.task import ClassificationTask
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict

from timm_sumix import FastCollateSUMix, SUMixLoss, SUMixMixup, SUMixOptions, SUMixTask
from timm_sumix.correction.released import Released

SETTINGS = {'mixup_alpha': 0., 'cutmix_alpha': 1., 'mode': 'elem', 'num_classes': 10}


# several places in the last map for images of 32 x 32, which the head reads
SMALL = {'test_resnet': {'output_stride': 8}, 'test_vit': {'img_size': 32, 'global_pool': 'avg'}}


def _model(name='test_resnet', **kwargs):
    return timm.create_model(name, num_classes=10, **{**SMALL.get(name, {}), **kwargs})


def _task(name='test_resnet', mixup=None, **kwargs):
    """Return a task that is prepared, with the uncertainty term unless it is left out by name."""
    torch.manual_seed(0)
    task = SUMixTask(
        _model(name), SUMixMixup(**{**SETTINGS, **(mixup or {})}), verbose=False, **{'gamma': 0.5, **kwargs})
    task.prepare(_batch(side=32 if name in SMALL else 64)[0])
    return task


def _batch(size=6, side=32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, 3, side, side, generator=generator), torch.randint(0, 10, (size,), generator=generator)


def _seen_shapes(module):
    """Return a list that fills with the shape of each input to the module's first convolution."""
    shapes = []
    first = next(part for part in module.modules() if isinstance(part, nn.Conv2d))
    first.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape[-2:])))
    return shapes


@pytest.mark.parametrize('name', ['test_resnet', 'test_vit', 'test_efficientnet', 'test_convnext', 'test_nfnet'])
@pytest.mark.parametrize('kwargs', [
    {}, {'ratio': 'feature'}, {'ratio': 'evidence'}, {'ratio': 'similarity'}, {'original_pass': 'no-grad'},
    {'original_pass': 'grad'}], ids=str)
def test_every_parameter_of_any_model_learns(name, kwargs):
    task = _task(name, **kwargs)
    result = task(*_batch(side=32 if name in SMALL else 64))
    result['loss'].backward()
    assert result['output'].shape == (6, 10) and result['lam'].shape == (6,)
    torch.testing.assert_close(result['loss'], result['classification'] + 0.5 * result['uncertainty'])
    assert all(parameter.grad is not None for parameter in task.get_trainable_module().parameters())


@pytest.mark.parametrize('criterion', [
    None, BinaryCrossEntropy(), BinaryCrossEntropy(sum_classes=True), nn.CrossEntropyLoss()])
@pytest.mark.parametrize('switch', ['prob', 'mixup_enabled'])
def test_an_unmixed_batch_has_timms_loss_and_one_pass(switch, criterion):
    task = _task(mixup={'label_smoothing': 0.1, **({'prob': 0.} if switch == 'prob' else {})}, criterion=criterion)
    task.mixup.mixup_enabled = switch == 'prob'
    input, labels = _batch()
    reference = ClassificationTask(copy.deepcopy(task.get_eval_model()), task.criterion.base, verbose=False)
    _, target = task.mixup(input, labels)
    shapes = _seen_shapes(task.get_eval_model())
    result = task(input, labels)
    expected = reference(input, target.soft_target())['loss']
    torch.testing.assert_close(result['loss'], expected, rtol=1e-6, atol=0.)
    assert len(shapes) == 1 and (result['lam'] == 1).all() and result['uncertainty'] == 0
    result['loss'].backward()
    assert all(parameter.grad is not None for parameter in task.get_trainable_module().parameters())


def test_mixed_batches_and_mixed_targets_mean_the_same():
    input, labels = _batch()
    results = []
    for early in (False, True):
        task = _task()
        torch.manual_seed(1)
        results.append(task(*(task.mixup(input, labels) if early else (input, labels))))
    assert torch.equal(results[0]['loss'], results[1]['loss']) and results[0]['uncertainty'] > 0


def test_a_checkpoint_is_a_plain_timm_model_with_the_head_beside_it():
    task = _task()
    task.setup_ema(decay=0.5)
    task(*_batch())['loss'].backward()
    with torch.no_grad():
        for parameter in task.get_trainable_module().parameters():
            parameter.add_(0.1)
    task.update_ema(step=3)
    state, ema = task.get_checkpoint_state(), task.get_checkpoint_state(ema=True)
    for weights in (state['state_dict'], ema['state_dict_ema']):
        _model().load_state_dict(weights, strict=True)
    other = _task()
    other.setup_ema()
    other.load_checkpoint_state(state['state_dict'], state['task_state'])
    other.load_checkpoint_state(ema['state_dict_ema'], ema['task_state_ema'], ema=True)
    pairs = zip(task.state_dict().items(), other.state_dict().items())
    assert all(name == other_name and torch.equal(a, b) for (name, a), (other_name, b) in pairs)
    assert isinstance(task.get_eval_model(ema=True), type(_model()))
    head, ema_head = (part['uncertainty']['weight'] for part in (state['task_state'], ema['task_state_ema']))
    assert not torch.equal(head, ema_head)


@pytest.mark.parametrize('saved, loading', [({}, {'gamma': 0.}), ({'gamma': 0.}, {})])
def test_a_head_that_is_missing_or_left_over_is_refused(saved, loading):
    state = _task(**saved).get_checkpoint_state()
    with pytest.raises(ValueError, match='resume with the same uncertainty and gamma'):
        _task(**loading).load_checkpoint_state(state['state_dict'], state.get('task_state'))


def test_compiled_task_computes_the_same_and_keeps_plain_names():
    plain, compiled = _task('test_vit'), _task('test_vit')
    compiled.setup_ema()
    compiled.compile(backend='eager')
    compiled.compile_ema(backend='eager')
    results = []
    for task in (plain, compiled):
        torch.manual_seed(1)
        results.append([task.get_eval_model()(_batch()[0]), *(task(*_batch())['loss'] for _ in range(2))])
    torch.testing.assert_close(*results)
    for key, ema in (('state_dict', False), ('state_dict_ema', True)):
        assert list(compiled.get_checkpoint_state(ema=ema)[key]) == list(_model('test_vit').state_dict())


@pytest.mark.parametrize('opt, kwargs', [
    ('adamw', {}), ('adamw', {'layer_decay': 0.7}), ('muon', {'fallback_list': ['head*', 'patch_embed*']}),
    ('muon', {'layer_decay': 0.7})])
@pytest.mark.parametrize('name', ['test_vit', 'test_resnet'])
def test_the_optimizer_sees_the_models_own_names(name, opt, kwargs):
    def groups(module):
        optimizer = create_optimizer_v2(module, opt=opt, lr=1e-3, weight_decay=0.05, **kwargs)
        return [{**group, 'params': list(map(id, group['params']))} for group in optimizer.param_groups]

    task = _task(name, gamma=0.)
    assert groups(task.get_trainable_module()) == groups(task.get_eval_model())
    with_head = _task(name).get_trainable_module()
    names = [name for name, _ in with_head.named_parameters()]
    assert names == [*dict(_model(name).named_parameters()), 'uncertainty.weight', 'uncertainty.bias']
    assert [name for name, _ in with_head.named_parameters('a')] == [f'a.{name}' for name in names]
    assert list(map(id, with_head.parameters())) == [id(parameter) for _, parameter in with_head.named_parameters()]
    head = with_head.uncertainty
    optimizer = create_optimizer_v2(with_head, opt=opt, lr=1e-3, weight_decay=0.05, **kwargs)
    found = {
        parameter: (group.get('lr_scale', 1.), group['weight_decay'])
        for group in optimizer.param_groups for parameter in group['params']}
    assert found[head.weight] == (1., 0.05) and found[head.bias] == (1., 0.)


# L-BFGS takes a closure and AdaHessian a graph of gradients; BNB and fused ones need other packages or a GPU
OPTIMIZERS = [
    name for name in list_optimizers()
    if name not in ('lbfgs', 'adahessian') and not name.startswith(('bnb', 'fused'))]


@pytest.mark.parametrize('opt', [
    pytest.param(name, marks=() if name in ('sgd', 'adamw', 'muon', 'lamb') else pytest.mark.slow)
    for name in OPTIMIZERS])
def test_runs_with_and_without_sumix_resume_each_others_optimizer(opt):
    task = _task('test_vit', gamma=0.)
    plain = ClassificationTask(_model('test_vit'), nn.CrossEntropyLoss(), verbose=False)
    optimizers = [
        create_optimizer_v2(one.get_trainable_module(), opt=opt, lr=1e-3, weight_decay=0.05) for one in (task, plain)]
    for one, optimizer in zip((task, plain), optimizers):
        one(*_batch())['loss'].backward()
        optimizer.step()
    for optimizer, other in (optimizers, optimizers[::-1]):
        state = optimizer.state_dict()
        other.load_state_dict(copy.deepcopy(state))
        for ours, theirs in zip(optimizer.param_groups, other.param_groups):
            shapes = [[parameter.shape for parameter in group['params']] for group in (ours, theirs)]
            assert shapes[0] == shapes[1]
    plain.load_checkpoint_state(task.get_checkpoint_state()['state_dict'])


@pytest.mark.parametrize('kwargs', [{}, {'ratio': 'similarity'}, {'gamma': 0.}, {'original_pass': 'grad'}], ids=str)
@pytest.mark.parametrize('part', ['task', 'trainable_module', 'model'])
def test_in_eval_mode_the_loss_is_timms_on_clean_images_and_nothing_is_counted(kwargs, part):
    task = _task(mixup={'label_smoothing': 0.1}, **kwargs)
    {'task': task, 'trainable_module': task.trainable_module, 'model': task.get_eval_model()}[part].eval()
    input, labels = _batch()
    shapes, previews = _seen_shapes(task.get_eval_model()), []
    task.after_batch = lambda *arguments: previews.append(arguments)
    before = copy.deepcopy(task.state_dict())
    with torch.no_grad():
        result = task(input, labels)
        expected = ClassificationTask(task.get_eval_model(), nn.CrossEntropyLoss(), verbose=False)(input, labels)
    assert torch.equal(result['output'], expected['output'])
    torch.testing.assert_close(result['loss'], expected['loss'])
    assert len(shapes) == 2 and not previews and task.pop_metrics() == {} and task.mixup.mixup_enabled
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    if part == 'task':  # timm's train_one_epoch sets the mode of the trainable module alone
        task.trainable_module.train()
    result = (task if part == 'task' else task.train())(input, labels)
    assert (result['lam'] < 1).any() and task.pop_metrics()


@pytest.mark.parametrize('criterion', [nn.CrossEntropyLoss(reduction='none'), nn.BCEWithLogitsLoss(reduction='none')])
def test_a_criterion_that_does_not_reduce_is_refused(criterion):
    with pytest.raises(ValueError, match="base must return one loss for the batch, .* got .6.*: use reduction 'mean"):
        _task(criterion=criterion)(*_batch())


def test_a_model_without_layer_groups_leaves_them_to_timm():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    task = SUMixTask(model, SUMixMixup(**SETTINGS), ratio='similarity', original_pass='no-grad', verbose=False)
    assert not hasattr(task.get_trainable_module(), 'group_matcher')
    task(*_batch())['loss'].backward()
    create_optimizer_v2(task.get_trainable_module(), opt='sgd', lr=0.1, layer_decay=0.7)


@pytest.mark.parametrize('training', [True, False])
def test_what_timms_mixup_made_and_images_that_are_not_normalised_are_named(training):
    task, (images, labels) = _task().train(training), _batch()
    mixed, soft_target = Mixup(num_classes=task.mixup.num_classes)(images.clone(), labels)
    with pytest.raises(TypeError, match=r'got torch.float32 \[\d+, \d+\]; a soft target, as timm.data.Mixup'):
        task(mixed, soft_target)
    if training:
        with pytest.raises(ValueError, match="PrefetchLoader makes them so.*got torch.uint8"):
            task((255 * images).to(torch.uint8), labels)


@pytest.mark.parametrize('options', [{}, {'gamma': 0.5}], ids=str)
def test_functional_call_and_distributed_checkpoints_have_a_way(options):
    task, batch = _task(**options), _batch()
    module = task.get_trainable_module()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    task(*batch)['loss'].backward()
    optimizer.step()
    task.eval()
    output, _ = torch.func.functional_call(module, module.state_dict(), (batch[0],))
    assert torch.equal(output.logits, task.get_eval_model()(batch[0]))
    model_state, optimizer_state = get_state_dict(nn.ModuleDict(dict(module.named_children())), optimizer)
    assert list(model_state) == list(module.state_dict()) and optimizer_state['state']


@pytest.mark.parametrize('is_synchronised, passes', [(True, 2), (False, 1)])
def test_synchronised_batch_norm_makes_both_passes_always(is_synchronised, passes):
    task = _task(mixup={'prob': 0.}, ratio='similarity', original_pass='no-grad')
    if is_synchronised:  # after the task was made, as train.py does
        task.trainable_module = nn.SyncBatchNorm.convert_sync_batchnorm(task.trainable_module)
    shapes = _seen_shapes(task.trainable_module)
    task(*_batch())
    assert len(shapes) == passes  # processes would wait for each other's missing pass
    assert task.eval()(*_batch())['loss'].isfinite()  # no pass over images that are not there


@pytest.mark.parametrize('gamma', [0., 0.5])
def test_synchronised_batch_norm_in_a_head_waits_as_often_whether_a_batch_is_mixed_or_not(gamma):
    model, found = nn.SyncBatchNorm.convert_sync_batchnorm(_model('mobilenetv4_conv_small')), []
    for prob in (1., 0.):
        task = SUMixTask(model, SUMixMixup(**SETTINGS, prob=prob), gamma=gamma, verbose=False)
        task.prepare(_batch(side=64)[0])
        norm, = (one for one in task.get_trainable_module().found.noisy if isinstance(one, nn.SyncBatchNorm))
        modes = []
        hook = norm.register_forward_pre_hook(lambda module, _, modes=modes: modes.append(module.training))
        task(*_batch(side=64))['loss'].backward()
        hook.remove()
        found.append(modes)
    # in eval mode it waits for none
    assert found[1] and all(found[1]) and found[0] == found[1] + [False] * len(found[1])


def test_metrics_are_means_over_samples_since_the_last_call():
    task, expected, count = _task(), {}, 0
    assert task.pop_metrics() == {}
    for labels in ([0, 1, 2, 0], [1, 2, 3, 4, 2, 6]):  # pairs of one class do not count as moved
        size = len(labels)
        input, target = task.mixup(_batch(size)[0], torch.tensor(labels))
        result = task(input, target)
        parts = {
            'lam': target.lam.mean(), 'corrected_lam': result['lam'].mean(),
            'shift': ((result['lam'] - target.lam).abs() * (target.labels != target.partner_labels)).mean(),
            'classification': result['classification'], 'uncertainty': result['uncertainty']}
        expected = {name: expected.get(name, 0.) + size * part.item() for name, part in parts.items()}
        count += size
    assert task.pop_metrics() == pytest.approx({name: value / count for name, value in expected.items()}, rel=1e-4)
    assert task.pop_metrics() == {}


def test_clipping_leaves_out_both_heads_where_asked():
    task = _task()
    trainable = task.get_trainable_module()
    clipped = {id(parameter) for parameter in task.get_clip_parameters(exclude_head=True)}
    heads = {id(parameter) for head in (trainable.model.get_classifier(), trainable.uncertainty)
             for parameter in head.parameters()}
    everything = {id(parameter) for parameter in task.get_clip_parameters()}
    assert not clipped & heads and clipped | heads == everything


@pytest.mark.parametrize('kwargs, error, message', [  # the others are in test_ratios.py
    ({'original_pass': 'half'}, ValueError, r"original_pass must be one of \['none', 'no-grad', 'grad'\], got 'half'"),
    ({'temprature': 2.}, TypeError, r"options must be among \['ratio', 'strength', .*got \['temprature'\]"),
    ({'mixup': {'num_classes': 7}}, ValueError, f'mixup has num_classes 7, but {type(_model()).__name__} has 10'),
    ({'criterion': nn.CrossEntropyLoss(), 'criterion_kwargs': {'loss_type': 'bce'}}, ValueError, 'either crit'),
])
def test_bad_options_are_refused(kwargs, error, message):
    with pytest.raises(error, match=message):
        _task(**kwargs)


def test_what_a_model_or_mixup_lacks_is_said():
    with pytest.raises(TypeError, match='mixup must be a SUMixMixup .*got FastCollateSUMix'):
        SUMixTask(_model(), FastCollateSUMix(**SETTINGS))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
    for options in ({}, {'ratio': 'similarity'}, {'ratio': 'area', 'gamma': 0.5}, {
            'ratio': 'combined', 'original_pass': 'no-grad'}, {
            'ratio': 'similarity', 'original_pass': 'grad', 'gamma': 0.5}):
        with pytest.raises(TypeError, match="Sequential lacks .'forward_features', 'forward_head'.") as error:
            SUMixTask(plain, SUMixMixup(**SETTINGS), **options)
    path, = re.findall(r'docs/\S+\.py', str(error.value))
    assert (ROOT / path).is_file()


@pytest.mark.skipif(not hasattr(timm.loss, 'create_classification_loss'), reason='newer timm has it')
def test_the_criterion_can_be_described_as_newer_timm_does():
    task = _task(criterion_kwargs={'loss_type': 'bce', 'soft_targets': True})
    assert isinstance(task.criterion.base, BinaryCrossEntropy)
    task(*_batch())['loss'].backward()


def test_without_options_and_in_presets_loss_and_task_mean_the_same_and_a_head_is_made_for_the_term_alone():
    for options, gamma in ((None, 0.), (SUMixOptions.preset('paper'), 0.5), (SUMixOptions.preset('released'), 0.5)):
        task = SUMixTask(_model(), SUMixMixup(**SETTINGS), options=options, verbose=False)
        assert task.criterion.options.gamma == gamma and ('uncertainty' in task.get_task_state()) == (gamma > 0)
        assert task.criterion.options == SUMixLoss(None, options).options == (options or SUMixOptions())
        assert task.criterion.ratio == SUMixLoss(None, options).ratio


@pytest.mark.parametrize('kwargs, has_graph', [
    ({'original_pass': 'no-grad'}, False), ({'original_pass': 'grad'}, True), ({}, True), ({'gamma': 0.}, False)])
def test_a_graph_is_kept_of_the_unmixed_outputs_where_gradient_flows_through_them_alone(kwargs, has_graph):
    task = _task(ratio='similarity', **kwargs)
    mixed, target = task.mixup(*_batch())
    inputs = (target.original,) if task.criterion.options.original_pass else (None, target.mixing)
    assert task.get_trainable_module()(mixed, *inputs)[1].logits.requires_grad == has_graph


def test_a_head_has_its_models_dtype():
    model = _model().to(torch.bfloat16)
    task = SUMixTask(model, SUMixMixup(**SETTINGS), gamma=0.5, verbose=False)
    input, labels = _batch()
    task(input.bfloat16(), labels)['loss'].backward()
    head = task.get_trainable_module().uncertainty
    assert head.weight.dtype == torch.bfloat16 and head.weight.grad.isfinite().all()


def test_the_default_learns_as_timm_does_from_the_corrected_target():
    task = _task(gamma=0.)
    mixed, target = task.mixup(*_batch())
    plain = ClassificationTask(copy.deepcopy(task.get_eval_model()), task.criterion.base, verbose=False)
    result = task(mixed, target)
    expected = plain(mixed, target.soft_target(result['lam']))
    assert torch.equal(result['output'], expected['output'])
    torch.testing.assert_close(result['loss'], expected['loss'])  # by two labels, not by a target [N, C]
    result['loss'].backward()
    expected['loss'].backward()
    for ours, theirs in zip(task.get_eval_model().parameters(), plain.get_eval_model().parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_mixup_that_two_tasks_share_is_left_as_it_was():
    mixup = SUMixMixup(**SETTINGS)
    before = copy.deepcopy(vars(mixup))
    options = ({}, {'ratio': 'area'}, {'ratio': 'released'}, {'original_pass': 'no-grad'})
    tasks = [SUMixTask(_model(), mixup, verbose=False, **part) for part in options]
    for task in (*tasks, *tasks[::-1]):
        assert task(*_batch())['loss'].isfinite()
    assert vars(mixup) == before and all(task.mixup is mixup for task in tasks)


@pytest.mark.parametrize('mixup, kwargs, said, level', [
    ({'mode': 'elem'}, {}, "mode 'pair' (--mixup-mode pair) gives truer labels", 'INFO'),
    *((mixup, kwargs, said, None)  # nothing would be truer, and all can be corrected
      for mixup, kwargs in (
          ({'mode': 'pair'}, {}), ({'mode': 'batch'}, {}), ({'mode': 'elem', 'prob': 0.5}, {'ratio': (0., 0., 0.)}),
          ({'mode': 'elem'}, {'original_pass': 'no-grad'}))
      for said in ('truer', 'can be corrected')),
    ({'mixup_alpha': 0.8}, {}, 'labels of 50% of the images can be corrected', 'INFO'),
    ({'mixup_alpha': 0.8, 'switch_prob': 0.8, 'prob': 0.5}, {}, 'labels of 40% of the images can be corrected', 'INFO'),
    ({'mixup_alpha': 0.2, 'cutmix_alpha': 0.}, {}, 'labels of 0% of the images can be corrected', 'WARNING'),
    ({'policy': ['mixup', 'fmix', 'resizemix', 'gridmix']}, {}, 'labels of 75% of the images', 'INFO'),
    ({}, {'gamma': 0.25}, 'Uncertainty term: gamma 0.25 (head).', 'INFO'),
    ({}, {}, 'pass over the unmixed images: none; cost: as CutMix', 'INFO'),
    ({}, {'original_pass': 'no-grad'}, 'pass over the unmixed images: no-grad; cost: a second forward.', 'INFO'),
    ({}, {'gamma': 0.5, 'ratio': Released()}, 'images: grad; cost: a second forward and backward', 'INFO'),
    ({}, {'ratio': Released()}, "labels corrected by what the authors' released code computes", 'INFO'),
])
def test_the_log_says_what_a_recipe_corrects_and_costs(caplog, mixup, kwargs, said, level):
    caplog.set_level('INFO')
    SUMixTask(_model(), SUMixMixup(**{**SETTINGS, 'cutmix_alpha': 0. if 'policy' in mixup else 1., **mixup}), **kwargs)
    levels = [record.levelname for record in caplog.records if said in record.getMessage()]
    assert levels == ([level] if level else []) and 'labels corrected by' in caplog.text


@pytest.mark.parametrize('device', [None, torch.device('cpu')])
def test_head_and_criterion_are_on_the_models_device_unless_another_is_given(device):
    model = _model().to('meta')
    criterion = nn.CrossEntropyLoss(weight=torch.ones(10, device='meta' if device is None else 'cpu'))
    task = SUMixTask(model, SUMixMixup(**SETTINGS), criterion, gamma=0.5, device=device, verbose=False)
    found = {task.criterion.base.weight.device.type, task.get_trainable_module().uncertainty.weight.device.type}
    assert found == {'meta' if device is None else 'cpu'} and next(model.parameters()).device.type == 'meta'
