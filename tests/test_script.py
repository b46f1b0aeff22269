"""Train scripts that import timm's names in other ways, or do not fit SUMix or timm: edits of benchmarks/train.py."""
import subprocess
import sys

import pytest
import timm
import torch
from conftest import ROOT
from helpers import read_summary

import train_patch.patch
from train_patch.errors import check_timm

SCRIPT = ROOT / 'benchmarks' / 'train.py'
MIXUPS = 'from timm.data import FastCollateMixup, Mixup, create_dataset, '
TASKS = 'from timm.task import ClassificationTask, '


def _with(tmp_path, *edits, name='script.py'):
    """Return the script with some of its text replaced."""
    text = SCRIPT.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize('engine', [
    'from timm.data import FastCollateMixup, Mixup\nfrom timm.task import *\n'
    'def create_task(*args, **kwargs):\n    return ClassificationTask(*args, **kwargs)\n',
    'import timm.data\nimport timm.task.classification\nFastCollateMixup, Mixup = timm.data.FastCollateMixup, None\n'
    'def create_task(model, **kwargs):\n'
    '    return timm.task.classification.ClassificationTask(model, **kwargs)\n', None])
def test_imports_of_an_engine_and_inside_functions_get_the_replacements(launch, tmp_path, engine):
    name = f'engine_{tmp_path.name}'
    (tmp_path / f'{name}.py').write_text(engine or '')
    names = f'from {name} import FastCollateMixup, Mixup, create_task\n' if engine else ''
    script = _with(
        tmp_path, (MIXUPS, f'{names}from timm.data import create_dataset, '), (TASKS, 'from timm.task import '),
        *([('task = ClassificationTask(', 'task = create_task(')] if engine else [
            ('    mixup = None\n', '    from timm.data.mixup import FastCollateMixup, Mixup\n    mixup = None\n'),
            ('    task = C', '    from timm.task import ClassificationTask\n    task = C')]))
    assert read_summary(launch('--sumix', script=script))[0]['train_sumix_shift'] > 0


MISMATCH = 'needs timm 1.0.27 or newer and the train.py of the same version, and timm 1.0.27 is installed'
OWN = ('\n\ndef main', '\n\nclass Own(ClassificationTask):\n    pass\n\n\ndef main')
CLASSES = 'num_classes=args.num_classes)'


@pytest.mark.parametrize('edits, message', [
    ([('label_smoothing=args.smoothing', 'label_smoothing=None')], '--smoothing must be in .*, got None'),
    ([('label_smoothing=args.smoothing', 'label_smoothing=2.')], r'--smoothing must be in \[0, 1\), got 2'),
    ([(CLASSES, 'num_classes=7)')], 'mixup has --num-classes 7'),
    ([(CLASSES, 'num_classes=0)')], '--num-classes must be .* greater, got 0'),
    ([('args.dataset, ', 'args.dataset, target_transform=lambda label: torch.tensor(label, dtype=torch.int32), ')],
     r'labels must be an int64 tensor .*; use labels.long\(\)'),
    ([('return SoftTargetCrossEntropy()', 'return LabelSmoothingCrossEntropy()')], 'must take soft .* LabelSmoothing'),
    ([('return SoftTargetCrossEntropy()', 'return nn.MultiMarginLoss()')],
     'the loss must take soft targets .*, and MultiMarginLoss does not'),
    ([('task = Class', 'task = Own(model, SoftTargetCrossEntropy()) or Class'), OWN],
     f'made no ClassificationTask, or another task; --sumix {MISMATCH}'),
    ([('if args.mixes:', 'if False:')], f'makes its task without Mixup or FastCollateMixup; --sumix {MISMATCH}'),
    ([('train_one_epoch', 'train_an_epoch')], f' has no train_one_epoch; --sumix {MISMATCH}')])
def test_what_the_script_lacks_or_resolves_later_is_told_before_the_first_epoch(
        refused, tmp_path, monkeypatch, edits, message):
    monkeypatch.setattr('timm.__version__', '1.0.27')
    refused(f'.*{message}', '--no-prefetcher', script=_with(tmp_path, *edits))


@pytest.mark.parametrize('edit, message', [
    (('prob=args.mixup_prob', 'sharpen=1, prob=args.mixup_prob'), 'SUMix has no sharpen for FastCollateMixup, got 1'),
    (('verbose=primary)\n    o', 'threshold=0.3)\n    o'), 'SUMix has no threshold for ClassificationTask, got 0.3'),
    (('collate_fn=', 'later_argument=1, collate_fn='), r"create_loader\(\) got an unexpected keyword argument 'later_"),
    (('utils.get_outdir(', 'utils.later_name('), "module 'timm.utils' has no attribute 'later_name'"),
    (('from timm.models import ', 'from timm.models import later_name, '), "cannot import name 'later_name'"),
    (('from timm.models import ', 'import timm.later\nfrom timm.models import '), "No module named 'timm.later'")])
def test_a_script_that_is_newer_than_timm_is_told_in_one_line(refused, tmp_path, monkeypatch, edit, message):
    monkeypatch.setattr('timm.__version__', '1.0.27')
    refused(f'.* asks for what is not there: .*{message}.*; --sumix {MISMATCH}', script=_with(tmp_path, edit))


@pytest.mark.parametrize('edit, error', [
    (('losses.update(loss', 'losses.updat(loss'), AttributeError),
    (('task.update_ema(', 'task.later_method('), AttributeError),
    (('device, autocast)\n        if', 'device, later=1)\n        if'), TypeError),
    (('import yaml\n', 'import yaml\nimport no_such_module\n'), ImportError)])
def test_other_errors_of_the_script_keep_their_traceback(launch, tmp_path, edit, error):
    script = _with(tmp_path, edit, ('losses, done = utils.AverageMeter()', 'losses, done = Meter()'), (
        '\n\ndef train_one_epoch', '\n\nclass Meter(utils.AverageMeter):\n    pass\n\n\ndef train_one_epoch'))
    with pytest.raises(error):
        launch('--sumix', script=script)


def test_classes_of_the_script_reach_workers_that_are_started_anew(launch, tmp_path):
    script = _with(
        tmp_path, ('\n\ndef main', '\n\nclass Marked:\n    def __init__(self, inner):\n        self.inner = inner\n\n'
                   '    def __call__(self, image):\n        return self.inner(image)\n\n\ndef main'),
        ('    return train_loader, ', '    for loader in (train_loader, validation_loader):\n'
         '        inner = getattr(loader, "loader", loader)\n        inner.multiprocessing_context = "spawn"\n'
         '        inner.dataset.transform = Marked(inner.dataset.transform)\n    return train_loader, '),
        name='script with a dot.v2.py')
    assert (launch('--sumix', script=script) / 'last.pth.tar').is_file()


def test_timms_names_are_its_own_again_after_a_run_even_one_that_failed(launch):
    import timm.data.mixup
    import timm.task.classification
    before = timm.data.Mixup, timm.data.mixup.FastCollateMixup, timm.task.ClassificationTask
    launch('--sumix')
    with pytest.raises(RuntimeError):
        launch('--sumix', model='no_such_model')
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


OLD_TIMM = (
    'import runpy, sys, timm\ntimm.__version__ = sys.argv.pop(1)\nsys.modules["timm.task"] = None\n'
    'runpy.run_module("train_patch", run_name="__main__", alter_sys=False)\n')


@pytest.mark.parametrize('version, flags', [
    ('1.0.20', ['--sumix']), ('1.0.26.dev0', ['--sumix', '--help']), ('0.1', [])])
def test_with_sumix_a_timm_that_is_too_old_is_told_in_one_line_that_names_both_versions(tmp_path, version, flags):
    (tmp_path / 'script.py').write_text('print("ran")\n')
    result = subprocess.run(
        [sys.executable, '-c', OLD_TIMM, version, tmp_path / 'script.py', *flags], cwd=ROOT, capture_output=True,
        text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == ((1, '', (
        f'train_patch: --sumix needs timm 1.0.27 or newer, and timm {version} is installed: pip install --upgrade '
        'timm, and take the train.py of that version\n')) if flags else (0, 'ran\n', ''))


@pytest.mark.parametrize('version', ['1.0.27', '1.0.100', '2.0', '1.0.28.dev0', '1.1.0rc1+local'])
def test_versions_are_compared_by_number(version, monkeypatch):
    monkeypatch.setattr(timm, '__version__', version)
    check_timm()
