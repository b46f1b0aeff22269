"""The task: against timm's ClassificationTask, and in all that a train script does with a task."""
import copy
import re

import pytest
import torch
from conftest import ROOT
from helpers import make_task, small_model
from timm.data import Mixup
from timm.loss import BinaryCrossEntropy
from timm.optim import create_optimizer_v2, list_optimizers
from timm.task import ClassificationTask
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict

from timm_sumix import FastCollateSUMix, SUMixLoss, SUMixMixup, SUMixOptions, SUMixTask
from timm_sumix.correction.released import Released


def _model(name='test_resnet'):
    return small_model(name, **({'img_size': 64, 'global_pool': 'avg'} if name == 'test_vit' else {}))


def _task(name='test_resnet', mixup=None, **kwargs):
    """Return a task that is prepared, with the uncertainty term unless it is left out by name."""
    torch.manual_seed(0)
    task = make_task(_model(name), 'elem', mixup, **{'gamma': 0.5, **kwargs})
    task.prepare(_batch()[0])
    return task


def _batch(size=6):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, 3, 64, 64, generator=generator), torch.randint(0, 10, (size,), generator=generator)


def _count_passes(module):
    """Return a list that gets an entry whenever the module's first convolution is called."""
    passes, first = [], next(part for part in module.modules() if isinstance(part, nn.Conv2d))
    first.register_forward_pre_hook(lambda *_: passes.append(1))
    return passes


@pytest.mark.parametrize('name', ['test_resnet', 'test_vit', 'test_efficientnet', 'test_convnext', 'test_nfnet'])
@pytest.mark.parametrize('kwargs', [
    {}, {'ratio': 'feature'}, {'ratio': 'evidence'}, {'ratio': 'similarity'}, {'original_pass': 'no-grad'},
    {'original_pass': 'grad'}], ids=str)
def test_every_parameter_of_any_model_learns(name, kwargs):
    task = _task(name, **kwargs)
    result = task(*_batch())
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
    passes = _count_passes(task.get_eval_model())
    result = task(input, labels)
    expected = reference(input, target.soft_target())['loss']
    torch.testing.assert_close(result['loss'], expected, rtol=1e-6, atol=0.)
    assert len(passes) == 1 and (result['lam'] == 1).all() and result['uncertainty'] == 0
    result['loss'].backward()
    assert all(parameter.grad is not None for parameter in task.get_trainable_module().parameters())


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
        return create_optimizer_v2(module, opt=opt, lr=1e-3, weight_decay=0.05, **kwargs).param_groups

    task, with_head = _task(name, gamma=0.), _task(name).get_trainable_module()
    ours, plain = (
        [{**group, 'params': list(map(id, group['params']))} for group in groups(module)]
        for module in (task.get_trainable_module(), task.get_eval_model()))
    assert ours == plain
    names = [name for name, _ in with_head.named_parameters()]
    assert names == [*dict(_model(name).named_parameters()), 'uncertainty.weight', 'uncertainty.bias']
    assert [name for name, _ in with_head.named_parameters('a')] == [f'a.{name}' for name in names]
    assert list(map(id, with_head.parameters())) == [id(parameter) for _, parameter in with_head.named_parameters()]
    found = {
        parameter: (group.get('lr_scale', 1.), group['weight_decay'])
        for group in groups(with_head) for parameter in group['params']}
    assert found[with_head.uncertainty.weight] == (1., 0.05) and found[with_head.uncertainty.bias] == (1., 0.)


# L-BFGS takes a closure and AdaHessian a graph of gradients; BNB and fused ones need other packages or a GPU
@pytest.mark.parametrize('opt', [
    pytest.param(name, marks=() if name in ('sgd', 'adamw', 'muon', 'lamb') else pytest.mark.slow)
    for name in list_optimizers()
    if name not in ('lbfgs', 'adahessian') and not name.startswith(('bnb', 'fused'))])
def test_runs_with_and_without_sumix_resume_each_others_optimizer(opt):
    task = _task('test_vit', gamma=0.)
    plain = ClassificationTask(_model('test_vit'), nn.CrossEntropyLoss(), verbose=False)
    optimizers = []
    for one in (task, plain):
        optimizers.append(create_optimizer_v2(one.get_trainable_module(), opt=opt, lr=1e-3, weight_decay=0.05))
        one(*_batch())['loss'].backward()
        optimizers[-1].step()
    for optimizer, other in (optimizers, optimizers[::-1]):
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    shapes = [[[part.shape for part in group['params']] for group in one.param_groups] for one in optimizers]
    assert shapes[0] == shapes[1]
    plain.load_checkpoint_state(task.get_checkpoint_state()['state_dict'])


@pytest.mark.parametrize('kwargs', [{}, {'ratio': 'similarity'}, {'gamma': 0.}, {'original_pass': 'grad'}], ids=str)
@pytest.mark.parametrize('part', ['task', 'trainable_module', 'model'])
def test_in_eval_mode_the_loss_is_timms_on_clean_images_and_nothing_is_counted(kwargs, part):
    task = _task(mixup={'label_smoothing': 0.1}, **kwargs)
    {'task': task, 'trainable_module': task.trainable_module, 'model': task.get_eval_model()}[part].eval()
    input, labels = _batch()
    passes, previews = _count_passes(task.get_eval_model()), []
    task.after_batch = lambda *arguments: previews.append(arguments)
    before = copy.deepcopy(task.state_dict())
    with torch.no_grad():
        result = task(input, labels)
        expected = ClassificationTask(task.get_eval_model(), nn.CrossEntropyLoss(), verbose=False)(input, labels)
    assert torch.equal(result['output'], expected['output'])
    torch.testing.assert_close(result['loss'], expected['loss'])
    assert len(passes) == 2 and not previews and task.pop_metrics() == {} and task.mixup.mixup_enabled
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    if part == 'task':  # timm's train_one_epoch sets the mode of the trainable module alone
        task.trainable_module.train()
    result = (task if part == 'task' else task.train())(input, labels)
    assert (result['lam'] < 1).any() and task.pop_metrics()


def test_a_model_without_layer_groups_leaves_them_to_timm():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10))
    task = make_task(model, ratio='similarity', original_pass='no-grad')
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


@pytest.mark.parametrize('is_synchronised, made', [(True, 2), (False, 1)])
def test_synchronised_batch_norm_makes_both_passes_always(is_synchronised, made):
    task = _task(mixup={'prob': 0.}, ratio='similarity', original_pass='no-grad')
    if is_synchronised:  # after the task was made, as train.py does
        task.trainable_module = nn.SyncBatchNorm.convert_sync_batchnorm(task.trainable_module)
    passes = _count_passes(task.trainable_module)
    task(*_batch())
    assert len(passes) == made  # processes would wait for each other's missing pass
    assert task.eval()(*_batch())['loss'].isfinite()  # no pass over images that are not there


@pytest.mark.parametrize('gamma', [0., 0.5])
def test_synchronised_batch_norm_in_a_head_waits_as_often_whether_a_batch_is_mixed_or_not(gamma):
    model, found = nn.SyncBatchNorm.convert_sync_batchnorm(_model('mobilenetv4_conv_small')), []
    for prob in (1., 0.):
        task = make_task(model, mixup={'prob': prob}, gamma=gamma)
        task.prepare(_batch()[0])
        norm, = (one for one in task.get_trainable_module().found.noisy if isinstance(one, nn.SyncBatchNorm))
        found.append([])
        hook = norm.register_forward_pre_hook(lambda module, _: found[-1].append(module.training))
        task(*_batch())['loss'].backward()
        hook.remove()
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
    module = task.get_trainable_module()
    heads = [*module.model.get_classifier().parameters(), *module.uncertainty.parameters()]
    clipped, everything = (set(task.get_clip_parameters(exclude_head=excluded)) for excluded in (True, False))
    assert not clipped & set(heads) and clipped | set(heads) == everything == set(module.parameters())


@pytest.mark.parametrize('kwargs, error, message', [  # the others are in test_ratios.py
    ({'original_pass': 'half'}, ValueError, r"original_pass must be one of \['none', 'no-grad', 'grad'\], got 'half'"),
    ({'temprature': 2.}, TypeError, r"options must be among \['ratio', 'strength', .*got \['temprature'\]"),
    ({'mixup': {'num_classes': 7}}, ValueError, f'mixup has num_classes 7, but {type(_model()).__name__} has 10'),
    ({'criterion': nn.CrossEntropyLoss(), 'criterion_kwargs': {'loss_type': 'bce'}}, ValueError, 'either crit'),
    *(({'criterion': criterion}, ValueError, "base must return one loss for the batch, .*got .6.*: use reduction 'mean")
      for criterion in (nn.CrossEntropyLoss(reduction='none'), nn.BCEWithLogitsLoss(reduction='none')))])
def test_bad_options_are_refused(kwargs, error, message):
    with pytest.raises(error, match=message):
        _task(**kwargs)(*_batch())


def test_what_a_model_or_mixup_lacks_is_said():
    with pytest.raises(TypeError, match='mixup must be a SUMixMixup .*got FastCollateSUMix'):
        SUMixTask(_model(), FastCollateSUMix())
    for options in (
            {}, {'ratio': 'area', 'gamma': 0.5}, {'ratio': 'combined', 'original_pass': 'no-grad'},
            {'original_pass': 'grad', 'gamma': 0.5}):
        with pytest.raises(TypeError, match="Sequential lacks .'forward_features', 'forward_head'.") as error:
            make_task(nn.Sequential(nn.Flatten(), nn.Linear(12, 10)), **options)
    path, = re.findall(r'docs/\S+\.py', str(error.value))
    assert (ROOT / path).is_file()


def test_presets_mean_the_same_to_loss_and_task_a_head_is_made_for_the_term_alone_and_the_mixup_is_left_as_it_is():
    mixup = SUMixMixup(num_classes=10)
    before = copy.deepcopy(vars(mixup))
    for options, gamma in ((None, 0.), (SUMixOptions.preset('paper'), 0.5), (SUMixOptions.preset('released'), 0.5)):
        task, loss = SUMixTask(_model(), mixup, options=options, verbose=False), SUMixLoss(None, options)
        assert task.criterion.options == loss.options == (options or SUMixOptions()) and loss.options.gamma == gamma
        assert task.criterion.ratio == loss.ratio and ('uncertainty' in task.get_task_state()) == (gamma > 0)
        assert task(*_batch())['loss'].isfinite() and task.mixup is mixup and vars(mixup) == before


@pytest.mark.parametrize('kwargs, has_graph', [
    ({'original_pass': 'no-grad'}, False), ({'original_pass': 'grad'}, True), ({}, True), ({'gamma': 0.}, False)])
def test_a_graph_is_kept_of_the_unmixed_outputs_where_gradient_flows_through_them_alone(kwargs, has_graph):
    task = _task(ratio='similarity', **kwargs)
    mixed, target = task.mixup(*_batch())
    inputs = (target.original,) if task.criterion.options.original_pass else (None, target.mixing)
    assert task.get_trainable_module()(mixed, *inputs)[1].logits.requires_grad == has_graph


def test_the_default_learns_as_timm_does_from_the_corrected_target_of_what_it_mixes_itself():
    task, (images, labels) = _task(gamma=0.), _batch()
    plain = ClassificationTask(copy.deepcopy(task.get_eval_model()), task.criterion.base, verbose=False)
    torch.manual_seed(1)
    mixed, target = task.mixup(images, labels)
    torch.manual_seed(1)
    result = task(images, labels)
    expected = plain(mixed, target.soft_target(result['lam']))
    assert torch.equal(result['output'], expected['output'])
    torch.testing.assert_close(result['loss'], expected['loss'])  # by two labels, not by a target [N, C]
    result['loss'].backward()
    expected['loss'].backward()
    for ours, theirs in zip(task.get_eval_model().parameters(), plain.get_eval_model().parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize('mixup, kwargs, said, level', [
    ({'mode': 'elem'}, {}, "mode 'pair' (--mixup-mode pair) gives truer labels", 'INFO'),
    *((mixup, kwargs, said, None)  # nothing would be truer, and all can be corrected
      for mixup, kwargs in (
          ({'mode': 'pair'}, {}), ({'mode': 'batch'}, {}), ({'mode': 'elem', 'prob': 0.5}, {'ratio': (0., 0., 0.)}),
          ({'mode': 'elem'}, {'original_pass': 'no-grad'}))
      for said in ('truer', 'can be corrected')),
    ({'mixup_alpha': 0.8, 'switch_prob': 0.8, 'prob': 0.5}, {}, 'labels of 40% of the images can be corrected', 'INFO'),
    ({'mixup_alpha': 0.2, 'cutmix_alpha': 0.}, {}, 'labels of 0% of the images can be corrected', 'WARNING'),
    ({}, {'gamma': 0.25}, 'Uncertainty term: gamma 0.25 (head).', 'INFO'),
    ({}, {}, 'pass over the unmixed images: none; cost: as CutMix', 'INFO'),
    ({}, {'original_pass': 'no-grad'}, 'pass over the unmixed images: no-grad; cost: a second forward.', 'INFO'),
    ({}, {'gamma': 0.5, 'ratio': Released()}, 'images: grad; cost: a second forward and backward', 'INFO'),
    ({}, {'ratio': Released()}, "labels corrected by what the authors' released code computes", 'INFO')])
def test_the_log_says_what_a_recipe_corrects_and_costs(caplog, mixup, kwargs, said, level):
    caplog.set_level('INFO')
    make_task(_model(), mixup=mixup, verbose=True, **kwargs)
    levels = [record.levelname for record in caplog.records if said in record.getMessage()]
    assert levels == ([level] if level else []) and 'labels corrected by' in caplog.text


@pytest.mark.parametrize('device', [None, torch.device('cpu')])
def test_head_and_criterion_are_on_the_models_device_unless_another_is_given_and_the_head_has_its_dtype(device):
    model = _model().to('meta', torch.bfloat16)
    criterion = nn.CrossEntropyLoss(weight=torch.ones(10, device='meta' if device is None else 'cpu'))
    task = make_task(model, criterion=criterion, gamma=0.5, device=device)
    head = task.get_trainable_module().uncertainty.weight
    assert {task.criterion.base.weight.device.type, head.device.type} == {'meta' if device is None else 'cpu'}
    assert next(model.parameters()).device.type == 'meta' and head.dtype == torch.bfloat16
