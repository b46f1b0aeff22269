"""The launcher on newest_train.py, which stands in for the train.py of timm 1.0.31: its losses, tasks and resuming."""
import importlib.util
import re
import shutil
from functools import partial

import pytest
import timm
import yaml
from conftest import ROOT
from helpers import read_summary

import train_patch.patch

NEWEST = ROOT / 'tests' / 'newest_train.py'

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('timm.loss._loss_factory') is None, reason='this timm has no choice of losses')


@pytest.mark.parametrize('arguments, expected', [
    ('', {}), ('--sumix-preset released --smoothing 0', {}), ('--bce-loss --sumix-gamma 0.5', {'pos_weight': None}),
    ('--loss bce --loss-pos-weight 2 --bce-target-thresh 0.3', {'pos_weight': 2., 'target_threshold': 0.3}),
    ('--loss poly --poly-epsilon 3 --no-prefetcher', {'epsilon': 3.})])
def test_trains_with_each_loss_that_takes_mixed_labels_as_the_script_asks_for_it(
        launch, monkeypatch, arguments, expected):
    seen, check = [], train_patch.patch.check_criterion
    monkeypatch.setattr(train_patch.patch, 'check_criterion', lambda *args: (seen.append(args[0]), check(*args)))
    row, = read_summary(launch('--sumix', *arguments.split(), script=NEWEST))
    assert 0 < row['train_loss'] < 20 and row['train_sumix_shift'] > 0 and 0 <= row['eval_top1'] <= 100
    assert {name: getattr(seen[0], name) for name in expected} == expected


@pytest.mark.parametrize('arguments, message', [
    ('--task multilabel',
     "--sumix-ratio 'similarity' compares what is predicted of one class an image, and with --task"),
    ('--task multilabel --sumix-ratio released', "--sumix-ratio 'released' "),
    ('--task multilabel --sumix-ratio evidence --sumix-gamma 0.5', 'the uncertainty term is of one class an image'),
    ('--task multilabel --kd-model-name x', '--task multilabel cannot be combined with --kd-model-name'),
    ('--task multilabel --sumix-ratio evidence --loss zlpr', '--sumix cannot be combined with --loss zlpr: '),
    *((f'--loss {loss}', f'--sumix cannot be combined with --loss {loss}: ') for loss in ('asl', 'twoway', 'db')),
    ('--loss jsd', '--sumix cannot be combined with --loss jsd: the loss over augmentation splits'),
    ('--loss bce --sumix-ratio released', "--sumix-ratio 'released' needs SoftTargetCrossEntropy")])
def test_what_cannot_be_combined_stops_before_data_or_model(refused, arguments, message):
    refused(re.escape(message), *arguments.split(), script=NEWEST, model='no_such_model', data='/no/such/folder')


@pytest.mark.parametrize('arguments', [
    '--sumix-ratio feature --no-prefetcher --smoothing 0.1', '--sumix-ratio evidence --loss asl --sumix-preview 3',
    '--sumix-ratio evidence --num-classes 1'])
def test_trains_images_of_several_classes(launch, arguments):
    folder = launch('--sumix', '--task', 'multilabel', *arguments.split(), script=NEWEST)
    row, = read_summary(folder)
    assert 0 < row['train_loss'] < 20 and 0 <= row['eval_map'] <= 100 and row['train_sumix_shift'] > 0
    assert 'preview' not in arguments or (folder / 'sumix-0.png').is_file()


@pytest.fixture
def launch_taught(launch, monkeypatch):
    """Return a function that launches a run with a teacher, whose weights are drawn rather than downloaded."""
    create_model = timm.task.distillation.create_model
    drawn = {'pretrained': False, 'pretrained_cfg_overlay': None}
    monkeypatch.setattr('timm.task.distillation.create_model', lambda *_, **kwargs: create_model(**{**kwargs, **drawn}))
    return partial(launch, '--sumix', '--kd-model-name', 'test_efficientnet', script=NEWEST)


@pytest.mark.parametrize('arguments, model, kwargs', [
    ('', 'test_resnet', {}),
    ('--kd-distill-type token --no-prefetcher --model-kwargs img_size=32', 'deit_tiny_distilled_patch16_224',
     {'img_size': 32})])
def test_trains_with_a_teacher(launch_taught, arguments, model, kwargs):
    folder = launch_taught(*arguments.split(), model=model)
    row, = read_summary(folder)
    assert 0 < row['train_loss'] < 50 and row['train_sumix_shift'] > 0
    timm.create_model(model, num_classes=4, checkpoint_path=str(folder / 'last.pth.tar'), **kwargs)


def test_resume_auto_goes_on_in_place_with_all_parts_and_repeats_an_uninterrupted_run(launch_taught, launch, tmp_path):
    launch_taught = partial(
        launch_taught, '--kd-distill-type', 'feature', '--sumix-gamma', 0.5, '--epochs', 2, '--resume', 'auto')
    whole = launch_taught(name='whole')
    assert [row['epoch'] for row in read_summary(whole)] == [0., 1.]
    (tmp_path / 'part').mkdir()
    shutil.copy(whole / 'checkpoint-0.pth.tar', tmp_path / 'part' / 'last.pth.tar')
    part = launch_taught(name='part')
    assert read_summary(part) == read_summary(whole)[1:]
    assert yaml.safe_load((part / 'args.yaml').read_text())['resume'] == 'auto'
    launch('-c', part / 'args.yaml', script=NEWEST, name='part')  # nothing is left to do
    assert read_summary(part) == read_summary(whole)[1:]
