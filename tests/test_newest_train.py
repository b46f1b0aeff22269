"""The launcher on newest_train.py, which stands in for the train.py of timm 1.0.31."""
import importlib.util
import re

import pytest
import timm
import torch
import yaml
from conftest import ROOT
from helpers import read_summary

import train_patch.patch

NEWEST = ROOT / 'tests' / 'newest_train.py'

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('timm.loss._loss_factory') is None, reason='this timm has no choice of losses')


@pytest.mark.parametrize('arguments', [
    '', '--no-prefetcher', '--loss ce', '--loss bce --loss-pos-weight 2', '--bce-loss --bce-pos-weight 2',
    '--loss poly --poly-epsilon 1', '--smoothing 0', '--sumix-gamma 0.5', '--sumix-preset released'])
def test_trains_with_each_loss_that_takes_mixed_labels(launch, arguments):
    folder = launch('--sumix', *arguments.split(), script=NEWEST)
    row, = read_summary(folder)
    assert 0 < row['train_loss'] < 20 and row['train_sumix_shift'] > 0 and 0 <= row['eval_top1'] <= 100
    assert yaml.safe_load((folder / 'args.yaml').read_text())['cutmix'] == 1.


def test_what_the_script_asks_of_its_loss_reaches_the_task(launch, monkeypatch):
    seen = []
    monkeypatch.setattr(train_patch.patch, 'check_criterion', lambda criterion, *_: seen.append(criterion))
    launch('--sumix', '--loss', 'bce', '--loss-pos-weight', 2, '--bce-target-thresh', 0.3, script=NEWEST)
    launch('--sumix', '--loss', 'poly', '--poly-epsilon', 3, script=NEWEST)
    assert seen[0].pos_weight == 2. and seen[0].target_threshold == 0.3 and seen[1].epsilon == 3.


@pytest.mark.parametrize('arguments, message', [
    ('--task multilabel',
     "--sumix-ratio 'similarity' compares what is predicted of one class an image, and with --task"),
    ('--task multilabel --sumix-ratio similarity', "--sumix-ratio 'similarity' compares what is predicted of"),
    ('--task multilabel --sumix-ratio released', "--sumix-ratio 'released' "),
    ('--task multilabel --sumix-ratio evidence --sumix-gamma 0.5', 'the uncertainty term is of one class an image'),
    ('--task multilabel --kd-model-name x', '--task multilabel cannot be combined with --kd-model-name'),
    *((f'{flags} --loss {loss}', f'--sumix cannot be combined with --loss {loss}: ') for flags, loss in (
        ('--task multilabel --sumix-ratio evidence', 'zlpr'), ('', 'asl'), ('', 'zlpr'), ('', 'twoway'), ('', 'db'))),
    ('--loss jsd --aug-splits 3', '--sumix cannot be combined with --aug-splits: '),
    ('--loss jsd', '--sumix cannot be combined with --loss jsd: the loss over augmentation splits'),
    ('--loss bce --sumix-ratio released', "--sumix-ratio 'released' needs SoftTargetCrossEntropy"),
    ('--loss poly --sumix-ratio released', "--sumix-ratio 'released' needs SoftTargetCrossEntropy"),
    ('--smoothing 1.5', '--smoothing must be in [0, 1), got 1.5'),
    ('--bce-loss --loss ce', '--bce-loss and --loss ce exclude each other'),
])
def test_what_cannot_be_combined_stops_before_data_or_model(refused, arguments, message):
    refused(re.escape(message), *arguments.split(), script=NEWEST, model='no_such_model', data='/no/such/folder')


@pytest.mark.parametrize('arguments', [
    '--sumix-ratio area --loss poly', '--sumix-ratio feature --no-prefetcher --smoothing 0.1',
    '--sumix-ratio evidence --loss asl --sumix-preview 3', '--sumix-ratio evidence --num-classes 1'])
def test_trains_images_of_several_classes(launch, tmp_path, arguments):
    # of a single one its label is no class out of range
    own = 'torch.tensor([label % 2.])' if 'classes' in arguments else 'torch.eye(4)[label] + torch.eye(4)[label - 3]'
    folder = launch('--sumix', '--task', 'multilabel', *arguments.split(), script=_with(tmp_path, _labels(own)))
    row, = read_summary(folder)
    assert 0 < row['train_loss'] < 20 and 0 <= row['eval_map'] <= 100
    assert (row['train_sumix_shift'] > 0) == ('area' not in arguments)
    assert 'preview' not in arguments or (folder / 'sumix-0.png').is_file()


@pytest.fixture
def teacher(monkeypatch):
    """Have the teacher's weights drawn rather than downloaded."""
    create_model = timm.task.distillation.create_model
    drawn = {'pretrained': False, 'pretrained_cfg_overlay': None}
    monkeypatch.setattr('timm.task.distillation.create_model', lambda *_, **kwargs: create_model(**{**kwargs, **drawn}))
    return ('--kd-model-name', 'test_efficientnet')


@pytest.mark.parametrize('arguments, model', [
    ('', 'test_resnet'), ('--kd-distill-type feature --sumix-gamma 0.5', 'test_resnet'),
    ('--kd-distill-type token --no-prefetcher', 'deit_tiny_distilled_patch16_224')])
def test_trains_with_a_teacher(launch, teacher, arguments, model):
    size = ('--model-kwargs', 'img_size=32') if 'token' in arguments else ()
    folder = launch('--sumix', *teacher, *arguments.split(), *size, script=NEWEST, model=model)
    row, = read_summary(folder)
    assert 0 < row['train_loss'] < 50 and row['train_sumix_shift'] > 0
    timm.create_model(model, num_classes=4, checkpoint_path=str(folder / 'last.pth.tar'), **(
        {'img_size': 32} if size else {}))


@pytest.mark.parametrize('flags', [(), ('--sumix-gamma', 0.5), ('--kd-distill-type', 'feature')])
def test_resume_auto_goes_on_in_place_and_repeats_an_uninterrupted_run(launch, teacher, flags):
    arguments = ('--sumix', *flags, *(teacher if 'feature' in flags else ()), '--epochs', 2, '--resume', 'auto')
    whole = launch(*arguments, script=NEWEST, name='whole')
    part = launch(*arguments, '--stop-epoch', 1, script=NEWEST, name='part')
    assert [row['epoch'] for row in read_summary(part)] == [0.]
    launch(*arguments, script=NEWEST, name='part')
    assert read_summary(part) == read_summary(whole)
    assert yaml.safe_load((part / 'args.yaml').read_text())['resume'] == 'auto'
    launch('-c', part / 'args.yaml', script=NEWEST, name='part')  # nothing is left to do
    assert read_summary(part) == read_summary(whole)


def test_a_config_file_of_sumix_passes_the_scripts_own_check(launch, tmp_path, caplog):
    (tmp_path / 'recipe.yaml').write_text(
        'sumix: true\nsumix_strength: 2.0e-1\nsumix_policy: [fmix]\nsumix_policy_kwargs: {decay: 2.0}\n')
    row, = read_summary(launch('-c', tmp_path / 'recipe.yaml', script=NEWEST))
    assert row['train_sumix_shift'] > 0 and 'no argument of this script' not in caplog.text


def _labels(expression):
    old = 'create_dataset(args.dataset, root=args.data_dir, split=split, is_training=training'
    return f'{old})', f'{old}, target_transform=lambda label: {expression})'


def _with(tmp_path, *edits):
    """Return the script with some of its text replaced."""
    text = NEWEST.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / 'script.py').write_text(text)
    return tmp_path / 'script.py'


MIXUPS = 'from timm.data import FastCollateMixup, Mixup, create_dataset, '
TASKS = 'from timm.task import ClassificationTask, MultiLabelClassificationTask, '


def test_imports_inside_functions_get_the_replacements(launch, tmp_path):
    script = _with(
        tmp_path, (MIXUPS, 'from timm.data import create_dataset, '), (TASKS, 'from timm.task import '),
        ('    mixup_fn = None\n', '    from timm.data.mixup import FastCollateMixup, Mixup\n    mixup_fn = None\n'),
        ('    create_task = ', '    from timm.task import ClassificationTask, MultiLabelClassificationTask\n'
         '    create_task = '))
    assert read_summary(launch('--sumix', script=script))[0]['train_sumix_shift'] > 0


@pytest.mark.parametrize('engine', [
    'from timm.data import FastCollateMixup, Mixup\nfrom timm.task import *\n'
    'def create_task(*args, **kwargs):\n    return ClassificationTask(*args, **kwargs)\n',
    'import timm.data\nimport timm.task.classification\nFastCollateMixup, Mixup = timm.data.FastCollateMixup, None\n'
    'def create_task(model, **kwargs):\n'
    '    return timm.task.classification.ClassificationTask(model, None, **kwargs)\n'])
def test_an_engine_that_the_script_imports_gets_the_replacements(launch, tmp_path, engine):
    name = f'engine_{tmp_path.name}'
    (tmp_path / f'{name}.py').write_text(engine)
    script = _with(
        tmp_path, (MIXUPS, f'from {name} import FastCollateMixup, Mixup, create_task\n'
                   'from timm.data import create_dataset, '), (TASKS, 'from timm.task import '),
        ('    create_task = MultiLabelClassificationTask if args.task == \'multilabel\' else ClassificationTask\n', ''))
    assert read_summary(launch('--sumix', script=script))[0]['train_sumix_shift'] > 0


MISMATCH = 'needs timm 1.0.27 or newer and the train.py of the same version, and timm 1.0.27 is installed'


@pytest.mark.parametrize('edits, message', [
    ([('label_smoothing=args.smoothing', 'label_smoothing=None')], '--smoothing must be in .*, and the script .* None'),
    ([('label_smoothing=args.smoothing', 'label_smoothing=2.')], r'--smoothing must be in \[0, 1\), got 2'),
    ([('num_classes=args.num_classes, multi', 'num_classes=7, multi')], 'mixup has --num-classes 7'),
    ([('num_classes=args.num_classes, multi', 'num_classes=0, multi')], '--num-classes must be .* greater, got 0'),
    ([_labels('torch.tensor(label, dtype=torch.int32)')], r'labels must be an int64 tensor .*; use labels.long\(\)'),
    ([('soft_targets=_mixes(args)', 'soft_targets=False')], 'must take soft targets .* LabelSmoothing'),
    ([('criterion_kwargs=_loss_kwargs(args)', 'criterion=AsymmetricLossSingleLabel()'),
      ('import LOSS_TYPES', 'import LOSS_TYPES, AsymmetricLossSingleLabel')],
     'the loss must take soft targets .*, and AsymmetricLossSingleLabel does not'),
    ([('= create_task(', '= Own('), ('\n\ndef main', '\n\nclass Own(ClassificationTask):\n    pass\n\n\ndef main')],
     f'made no ClassificationTask, or another task; --sumix {MISMATCH}'),
    ([('return args.mixup > 0 or ', 'return False and ')],
     f'makes its task without Mixup or FastCollateMixup; --sumix {MISMATCH}'),
])
def test_what_the_script_resolves_later_is_checked_before_the_first_epoch(
        refused, tmp_path, monkeypatch, edits, message):
    monkeypatch.setattr('timm.__version__', '1.0.27')
    refused(f'.*{message}', '--no-prefetcher', script=_with(tmp_path, *edits))


@pytest.mark.parametrize('edit, message', [
    (('prob=args.mixup_prob', 'sharpen=1, prob=args.mixup_prob'), 'SUMix has no sharpen for FastCollateMixup, got 1'),
    (('verbose=True', 'threshold=0.3'), 'SUMix has no threshold for ClassificationTask, got 0.3'),
    (('collate_fn=', 'later_argument=1, collate_fn='), r"create_loader\(\) got an unexpected keyword argument 'later_"),
    (('utils.trim_summary(', 'utils.later_name('), "module 'timm.utils' has no attribute 'later_name'"),
    (('from timm.models import ', 'from timm.models import later_name, '), "cannot import name 'later_name'"),
    (('from timm.models import ', 'import timm.later\nfrom timm.models import '), "No module named 'timm.later'"),
])
def test_a_script_that_is_newer_than_timm_is_told_in_one_line(refused, tmp_path, monkeypatch, edit, message):
    monkeypatch.setattr('timm.__version__', '1.0.27')
    refused(f'.* asks for what is not there: .*{message}.*; --sumix {MISMATCH}', script=_with(tmp_path, edit))


@pytest.mark.parametrize('edit, error', [
    (('losses.update(loss', 'losses.updat(loss'), AttributeError),
    (('task.create_evaluator()', 'task.later_method()'), AttributeError),
    (('device, evaluator)\n        utils', 'device, evaluator, later=1)\n        utils'), TypeError),
    (('import yaml\n', 'import yaml\nimport no_such_module\n'), ImportError),
])
def test_other_errors_of_the_script_keep_their_traceback(launch, tmp_path, edit, error):
    script = _with(tmp_path, edit, ('losses = utils.AverageMeter()', 'losses = Meter()'), (
        '\n\ndef train_one_epoch', '\n\nclass Meter(utils.AverageMeter):\n    pass\n\n\ndef train_one_epoch'))
    with pytest.raises(error):
        launch('--sumix', script=script)


def test_timms_names_are_its_own_again_after_a_run_even_one_that_failed(launch):
    import timm.data.mixup
    import timm.task.classification
    before = timm.data.Mixup, timm.data.mixup.FastCollateMixup, timm.task.ClassificationTask
    launch('--sumix', script=NEWEST)
    with pytest.raises(RuntimeError):
        launch('--sumix', script=NEWEST, model='no_such_model')
    assert before == (timm.data.mixup.Mixup, timm.data.FastCollateMixup, timm.task.classification.ClassificationTask)
    assert all(type(kind) is type for kind in before)


def test_a_class_derived_from_a_replaced_name_is_the_scripts_own():
    stand_in = train_patch.patch.Patch().stand_ins[timm.data.mixup.Mixup]
    mixup = torch.nn.Module.__new__(stand_in.__base__)
    derived = type('Own', (stand_in,), {})
    assert stand_in.__name__ == 'Mixup' and isinstance(mixup, stand_in) and not isinstance(mixup, derived)
    own = derived(0.2, num_classes=4)
    assert type(own) is derived and own.mixup_alpha == 0.2 and isinstance(own, stand_in)
    assert issubclass(derived, stand_in) and not issubclass(stand_in.__base__, derived)
