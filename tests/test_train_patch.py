"""The launcher, on benchmarks/train.py or on the script named by --train-script (timm's own train.py)."""
import argparse
import re
import runpy
import subprocess
import sys

import pytest
import timm
import torch
import yaml
from conftest import ROOT
from helpers import read_summary, run_arguments
from PIL import Image

import train_patch.checks
import train_patch.epochs
import train_patch.preview
from timm_sumix import MixedTarget, SUMixOptions
from timm_sumix.correction import RATIOS
from train_patch.errors import refuse
from train_patch.flags import add_flags, resolve


def _read_checkpoint(path):
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True)


def _assert_loads_into_plain_timm(folder, model='test_resnet', **kwargs):
    checkpoint = _read_checkpoint(folder / 'last.pth.tar')
    for key in {'state_dict', 'state_dict_ema'} & set(checkpoint):
        timm.create_model(model, num_classes=4, **kwargs).load_state_dict(checkpoint[key], strict=True)
    timm.create_model(model, num_classes=4, checkpoint_path=str(folder / 'last.pth.tar'), **kwargs)


@pytest.mark.parametrize('arguments', [
    '--mixup 0.8 --cutmix 1.0 --mixup-mode pair --amp --amp-dtype bfloat16 --channels-last',
    '--mixup 0.8 --cutmix 1.0 --mixup-mode elem --mixup-prob 0.5 --clip-grad 0.02 --clip-mode agc',
    '--mixup 0.8 --cutmix 1.0 --mixup-prob 0.5 --no-prefetcher --seed 4294967295',
    '--no-prefetcher --mixup-mode elem --cutmix-minmax 0.2 0.8', '--bce-loss --bce-target-thresh 0.2 --reprob 0.5',
    '--torchcompile eager --model-ema --model-ema-decay 0.9',
    '--sumix-ratio feature --sumix-strength 4 --aug-repeats 0', '--sumix-ratio area --sumix-gamma 0',
    '--sumix-ratio similarity --sumix-gamma 0.5 --mixup-mode pair --grad-accum-steps 2 --clip-grad 1.0',
    '--sumix-preset paper --model-ema', '--sumix-preset released --sumix-uncertainty logits --smoothing 0',
    '--sumix-ratio 0.5,1,0 --mixup-mode pair --sumix-original-pass no-grad',
    '--sumix-policy saliencymix fmix --sumix-policy-probs 0.8 0.2 --sumix-policy-kwargs fmix.alpha=1.0 fmix.decay=2.',
    '--sumix-policy resizemix --sumix-policy-kwargs scale=(0.3,0.6) --mixup-mode elem --channels-last',
    'test_vit --opt muon --opt-kwargs fallback_list=["head*","patch_embed*"] --img-size 32 --model-kwargs img_size=32',
    'test_efficientnet --drop 0.2 --drop-path 0.1 --input-size 3 64 64'])
def test_trains_and_saves_a_plain_timm_checkpoint(launch, arguments):
    model, _, arguments = arguments.partition(' ') if arguments.startswith('test_') else ('test_resnet', '', arguments)
    folder = launch('--sumix', *arguments.split(), model=model)
    row = read_summary(folder)[-1]
    assert 0 < row['train_sumix_lam'] <= 1 and 0 < row['train_loss'] < 20
    assert (row['train_sumix_shift'] > 0) == ('area' not in arguments)
    _assert_loads_into_plain_timm(folder, model, **({'img_size': 32} if model == 'test_vit' else {}))


def test_without_sumix_the_script_runs_as_if_started_directly(launch, train_script, monkeypatch):
    through = launch('--cutmix', '1.0', name='through')
    arguments = [through.parent if argument == 'through' else argument for argument in sys.argv[1:]]
    arguments[arguments.index('--experiment') + 1] = 'direct'
    monkeypatch.setattr(sys, 'argv', [train_script, *arguments])
    runpy.run_path(train_script, run_name='__main__')
    assert read_summary(through) == read_summary(through.parent / 'direct')
    saved = yaml.safe_load((through / 'args.yaml').read_text())
    assert not any(key.startswith('sumix') for key in saved)


@pytest.mark.parametrize('arguments', [
    '--no-aug --sumix-gamma 0.5 --model-ema', '--workers 1', '--workers 4 --aa rand-m9-mstd0.5 --reprob 0.3',
    '--workers 2 --no-prefetcher'])
def test_a_resumed_run_repeats_an_uninterrupted_one_up_to_the_heads_very_weights(launch, arguments):
    arguments = ('--sumix', '--epochs', 2, '--sumix-policy', 'fmix', '--mixup-mode', 'elem', *arguments.split())
    whole = launch(*arguments, name='whole')
    begin = whole / 'checkpoint-0.pth.tar'
    resumed = launch(*arguments, '--resume', begin, name='resumed')
    assert read_summary(resumed) == read_summary(whole)[1:]
    first, last, again = map(_read_checkpoint, (begin, whole / 'last.pth.tar', resumed / 'last.pth.tar'))
    for key in ('task_state', 'task_state_ema') if '--model-ema' in arguments else ():
        began, expected, found = (state[key]['uncertainty']['weight'] for state in (first, last, again))
        assert torch.equal(found, expected) and not torch.equal(found, began)


class _Random(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.rand(())


@pytest.mark.parametrize('persistent', [False, True])
def test_processes_and_epochs_draw_differently_in_the_loaders_workers(persistent):
    drawn = {}
    for rank in (0, 1):
        for first in (0, 1):  # from the start, and resumed
            generator = torch.Generator()
            loader = torch.utils.data.DataLoader(_Random(), num_workers=1, persistent_workers=persistent)
            for epoch in range(first, 2):
                train_patch.epochs.seed_epoch(epoch, 0, rank, [loader], generator)
                values = torch.cat(list(loader))
                assert torch.equal(drawn.setdefault((rank, epoch), values), values)  # the resumed run repeats it
    assert len({tuple(values.tolist()) for values in drawn.values()}) == 4
    own = torch.Generator().manual_seed(7)  # of the script's: it is left alone
    state, loader = own.get_state(), torch.utils.data.DataLoader(_Random(), generator=own)
    train_patch.epochs.seed_epoch(0, 0, 0, [loader], torch.Generator())
    assert loader.generator is own and torch.equal(own.get_state(), state)


def _parser(train_script):
    parser = runpy.run_path(train_script, run_name='train')['parser']
    add_flags(parser)
    return parser


@pytest.mark.parametrize('flag, said', [
    ('', False), ('use_multi_epochs_loader: true', True), ('dataset: wds/shards', True),
    ('dataset: torch/cifar10', False)])
def test_loaders_that_no_resumed_run_can_repeat_are_named(caplog, train_script, flag, said):
    caplog.set_level('INFO')
    parser = _parser(train_script)
    parser.set_defaults(**yaml.safe_load(flag or '{}'))
    resolve(parser.parse_args([]))
    assert ('a resumed run will not repeat an uninterrupted one' in caplog.text) == said


def test_mixup_off_epoch_takes_effect_at_once_with_persistent_workers(launch):
    arguments = ('--sumix', '--sumix-gamma', '0.5', '--epochs', 3, '--workers', 2, '--mixup-off-epoch', 1)
    for prefetcher in ([], ['--no-prefetcher']):
        rows = read_summary(launch(*arguments, *prefetcher, name=f'run{len(prefetcher)}'))
        assert [row['train_sumix_lam'] < 1 for row in rows] == [True, False, False]
        assert [row['train_sumix_uncertainty'] > 0 for row in rows] == [True, False, False]


def test_two_processes_train_one_model(image_folder, train_script, tmp_path):
    for label in range(4):  # masks of three classes
        (tmp_path / 'masks' / f'class{label}').mkdir(parents=True)
        for i in range(16 if label else 0):
            Image.new('1', (40, 40), 1).save(tmp_path / 'masks' / f'class{label}' / f'{i}.png')
    command = [
        sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', '-m', 'train_patch',
        train_script, *run_arguments(image_folder, tmp_path), '--batch-size', '8', '--sumix', '--sumix-gamma', '0.5',
        '--mixup-prob', '0.5', '--model-ema', '--sumix-preview', '3', '--reprob', '0.1', '--sumix-masks',
        tmp_path / 'masks']
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    for line in (
            "SUMix: epoch 0  first image's share", 'mixing by CutMix, alpha 1.0.', 'random erasing',
            'labels corrected by', 'mixed images with', '48 of 64 images had a mask', 'of 64 pictures looked at'):
        assert result.stderr.count(line) == 1  # one process logs, for both
    _assert_loads_into_plain_timm(tmp_path / 'run')


@pytest.mark.parametrize('arguments, message', [
    ('--mixup-mode half', "--mixup-mode must be one of ['batch', 'pair', 'elem'], got 'half'"),
    ('--sumix-ratio area --sumix-strength 2', "--sumix-ratio 'area' has no strength"),
    ('--sumix-gamma nan', '--sumix-gamma must be 0 or greater, got nan'),
    ('--sumix-original-pass no-grad --sumix-ratio area',
     "--sumix-original-pass 'no-grad' has no effect with --sumix-ratio 'area'"),
    ('--sumix-uncertainty none', "argument --sumix-uncertainty: invalid choice: 'none'"),
    ('--sumix-uncertainty logits', "--sumix-uncertainty 'logits' needs --sumix-ratio 'released'"),
    ('--sumix-ratio released --bce-loss', "--sumix-ratio 'released' needs SoftTargetCrossEntropy"),
    ('--sumix-ratio 1,x,2', "argument --sumix-ratio: must be a name or three numbers W,S,K, got '1,x,2'"),
    ('--sumix-ratio 1,2', 'must be three numbers (w, s, k)'),
    ('--sumix-preset best', "argument --sumix-preset: invalid choice: 'best'"),
    ('--sumix-preview -1', '--sumix-preview must be a number of images, 0 or greater, got -1'),
    ('--sumix-policy cutmux', '--sumix-policy must name one or more of'),
    ('--sumix-policy mixup --cutmix 0.5', "need 'cutmix' among the policies"),
    ('--sumix-policy fmix cutmix --sumix-policy-probs 0.5 0.6',
     '--sumix-policy-probs must be 2 probabilities that sum to 1'),
    ('--sumix-policy-probs 1', 'need --sumix-policy'),
    ('--sumix-policy fmix --sumix-policy-kwargs alfa=1', "--sumix-policy 'fmix' has the options ['alpha'"),
    ('--sumix-policy fmix --sumix-policy-kwargs alpha', "--sumix-policy-kwargs: must be OPTION=VALUE, got 'alpha'"),
    ('--sumix-policy fmix --sumix-policy-kwargs alpha=x', "kwargs alpha must be a number or several, got 'x'"),
    ('--sumix-policy fmix cutmix --sumix-policy-kwargs gridmix.alpha=1', "must have the policies ['fmix', 'cutmix']"),
    ('--smoothing 1.5', '--smoothing must be in [0, 1)'), ('--mixup-prob 2', '--mixup-prob must be in [0, 1]'),
    ('--cutmix-minmax 0.3', '--cutmix-minmax must be two numbers with 0 <= min <= max <= 1, got [0.3]'),
    ('--cutmix 0', '--cutmix 0 was given, and nothing would be mixed by cutmix: --sumix needs an alpha'),
    ('--cutmix=0. --sumix-policy fmix cutmix', '--cutmix 0 was given, and nothing would be mixed by cutmix'),
    ('--mixup 0 --sumix-policy mixup', '--mixup 0 was given, and nothing would be mixed by mixup'),
    ('--aug-repeats 3', 'needs several processes: in one, add --aug-repeats 0'),
    ('-c sumix/deit-s.yaml', 'needs several processes: in one, add --aug-repeats 0'),
    ('--sumix-rato similarity', ', did you mean --sumix-ratio?'), ('--cutmx=1', '--cutmx=1, did you mean --cutmix?'),
    *((f'{flag}: true', f'--sumix cannot be combined with --{flag.replace("_", "-")}: ') for flag in (
        'jsd_loss', 'aug_splits', 'naflex_loader', 'torchscript')),
    ('task: regression', "--sumix needs --task classification or multilabel, got 'regression'"),
    ('Sumix: true', "the config file has the key 'Sumix', which is none of SUMix, did you mean sumix?"),
    ('sumix_temprature: 3', "the config file has the key 'sumix_temprature', which is none of SUMix"),
    ('sumix-ratio: area', "the config file has the key 'sumix-ratio', which is none of SUMix, did you mean sumix_rat"),
    ('sumix: "false"', "sumix must be true or false in the config file, got 'false'"),
    ('sumix_ratio: best', '--sumix-ratio must be one of'), ('sumix_preset: best', '--sumix-preset must be one of'),
    *((f'{key}: {value}', f'{key} must be {expected} in the config file, got ') for expected, wrong in {
        'a name or a list, each a number': ['sumix_ratio: 1', 'sumix_ratio: ["1", 0, 0]'],
        'a number': ['sumix_gamma: "0.5"', 'sumix_gamma: true', 'sumix_strength: [2]'],
        'a name': ['sumix_uncertainty: false', 'sumix_original_pass: [grad]', 'sumix_preset: 1', 'sumix_masks: true'],
        'a whole number': ['sumix_preview: true', 'sumix_preview: "3"'],
        'a name or a list, each a name': ['sumix_policy: 3'], 'a list, each a number': ['sumix_policy_probs: 1'],
        'option: value pairs': ['sumix_policy_kwargs: alpha=1'],
    }.items() for key, value in (pair.split(': ') for pair in wrong)),
    ('sumix_policy: fmix\nsumix_policy_kwargs: {decay: "1"}', "decay must be a number or several, got '1'"),
    ('sumix_policy: fmix\nsumix_policy_kwargs: {fmix: {decay: "1"}}', 'fmix must be a number or several'),
    ('cutmix: 0', '--cutmix 0 was given, and nothing would be mixed by cutmix'),
    ('[1, 2]', 'the config file must hold key: value pairs'), ('a: b: c', 'cannot read the config file')])
def test_what_is_wrong_is_told_in_one_line_before_data_or_model(refused, tmp_path, train_script, arguments, message):
    # benchmarks/train.py takes no key that it has no flag for, as timm's does
    (tmp_path / 'script.py').write_text(
        f'import runpy\nglobals().update(runpy.run_path({train_script!r}, run_name="train"))\ndef main():\n'
        '    config, rest = config_parser.parse_known_args()\n'
        '    parser.set_defaults(**(yaml.safe_load(open(config.config)) if config.config else {}))\n'
        '    parser.parse_args(rest)\n    raise AssertionError\n')
    (tmp_path / 'config.yaml').write_text(arguments)
    given = arguments.split() if arguments.startswith('-') else ['-c', tmp_path / 'config.yaml']
    script = tmp_path / 'script.py'
    refused('.*' + re.escape(message), *given, script=script, model='no_such_model', data='/no/such/folder')


@pytest.mark.parametrize('text, expected', [
    ("ratio 'similarity' needs logits: original_pass 'no-grad', or gamma 0",
     "--sumix-ratio 'similarity' needs logits: --sumix-original-pass 'no-grad', or --sumix-gamma 0"),
    ('the ratio of a policy, in mode or strength', 'the ratio of a policy, in mode or strength'),
    ('use --sumix-gamma and sumix_gamma: 1', 'use --sumix-gamma and sumix_gamma: 1')])
def test_errors_of_the_library_name_the_flags(text, expected):
    with pytest.raises(SystemExit) as end:
        refuse(text)
    assert str(end.value) == f'train_patch: {expected}'


TOO_FEW = '--num-classes must be the number of classes in the data, got 3: '


@pytest.mark.parametrize('message, arguments, model', [
    ('the uncertainty term needs logits .*patches are dropped .*--sumix-original-pass .*--sumix-gamma 0',
     '--sumix-gamma 0.5 --model-kwargs img_size=32 patch_drop_rate=0.5', 'test_vit'),
    (f'{TOO_FEW}the training data has 4 classes', '--num-classes 3', 'test_resnet'),
    (f'{TOO_FEW}the training data has 4 classes', '--num-classes 3 --no-prefetcher', 'test_resnet')])
def test_a_model_that_a_ratio_cannot_read_and_too_few_classes_are_told_by_the_flag_before_training(
        refused, message, arguments, model):
    refused(message, *arguments.split(), model=model)


@pytest.mark.parametrize('policy, expected', [
    ('mixup', (1., 0.)), ('cutmix', (0., 1.)), ('[mixup, cutmix]', (1., 1.)), ('fmix', (0., 1.)),
    ('cutmix\nsumix_policy_kwargs: {alpha: 0.3}', (0., 0.3)),
    ('[gridmix, mixup]\nsumix_policy_kwargs: {gridmix.alpha: 0.7}\nsumix_policy_probs: [0.9, 0.1]', (1., 0.))])
def test_sumix_can_be_turned_on_by_a_config_file_and_the_saved_one_starts_the_same_run(
        launch, tmp_path, capfd, policy, expected):
    (tmp_path / 'config.yaml').write_text(
        f'sumix: true\nsumix_policy: {policy}\nsumix_ratio: [0.5, 1, 0]\nsumix_gamma: null\n')
    folder = launch('-c', tmp_path / 'config.yaml')
    saved = yaml.safe_load((folder / 'args.yaml').read_text())
    assert ((saved['mixup'], saved['cutmix']), saved['sumix_ratio']) == (expected, [0.5, 1, 0])
    # mixup's shares are right as they are
    assert (read_summary(folder)[0]['train_sumix_shift'] > 0) == (policy != 'mixup')
    log = capfd.readouterr().err
    for name, alpha in zip(('MixUp', 'CutMix'), expected):
        assert (f'{name}, alpha {alpha}' in log) == (name.lower() in policy)
    assert read_summary(launch('-c', folder / 'args.yaml', name='second')) == read_summary(folder)


@pytest.mark.parametrize('arguments, expected', [
    ('', SUMixOptions()), ('--sumix-preset paper', SUMixOptions('similarity', gamma=0.5, original_pass='grad')),
    ('--sumix-preset released --sumix-gamma 0.25', SUMixOptions('released', gamma=0.25)),
    ('--sumix-preset paper --sumix-original-pass none', SUMixOptions('similarity', gamma=0.5, original_pass='none')),
    ('--sumix-ratio feature --sumix-strength 4', SUMixOptions('feature', 4.))])
def test_a_preset_sets_what_is_not_given(train_script, arguments, expected):
    parser = _parser(train_script)
    parser.set_defaults(smoothing=None, task='classification')  # newer scripts resolve smoothing later
    assert resolve(parser.parse_args(arguments.split())).options == expected


LINE = r"SUMix: epoch 0  first image's share 0\.\d{3} -> 0\.\d{3}, labels moved by 0\.\d{3} on average  Loss: \d\.\d+"


@pytest.mark.parametrize('arguments, said', [
    ('', [
        'SUMix: neither --mixup nor --cutmix was given: mixing by CutMix, alpha 1.0.', f'{LINE}\n',
        r'SUMix: labels corrected by what the model recognises; ratio similarity \(0, 2, 0\).',
        'SUMix: pass over the unmixed images: none; cost: as CutMix.']),
    ('--sumix-gamma 0.5 --sumix-ratio evidence', [
        fr'{LINE} \+ 0.5 \* \d\.\d+ \(classification \+ gamma \* uncertainty\)',
        r"corrected by where the object is and the images' features; ratio evidence \(1, 0, 1\)."]),
    ('--sumix-ratio released', [
        r"what the authors' released code computes; ratio Released\(\).", 'no-grad; cost: a second forward.']),
    ('--sumix-ratio 0.5,1,0', [r'where the object is and what the model recognises; ratio \(0.5, 1, 0\).']),
    ('--mixup 0.8 --cutmix 1', [
        'labels of 50% of the images can be corrected', r'by MixUp, alpha 0.8 \(50%\); CutMix, alpha 1.0 \(50%\)']),
    ('--mixup 0.2', ['SUMix: labels of 0% of the images can be corrected']),
    ('--cutmix 1 --mixup-mode elem --num-classes 7', [r"mode 'pair' \(--mixup-mode pair\) gives truer labels"]),
    ('--model-kwargs output_stride=32', [r'map has a single place(.|\n)*Train: 0']),
    ('--lr 1e30 --opt sgd', ['SUMix: in epoch 0 the classification loss was not finite, first in'])])
def test_what_is_logged_is_logged_once(launch, capfd, recwarn, arguments, said):
    launch('--sumix', *arguments.split())
    log = capfd.readouterr().err
    assert [len(re.findall(text, log)) for text in said] == [1] * len(said)
    for text in ('map of a single place', 'not finite', 'of the images can be corrected', 'gives truer labels'):
        assert log.count(text) == sum(text in each for each in said)
    assert not any('place' in str(one.message) for one in recwarn.list)


@pytest.mark.parametrize('arguments', ['--no-prefetcher', '--mixup-mode elem --amp --amp-dtype bfloat16'])
def test_a_preview_shows_mixed_images_of_each_epoch_and_one_that_fails_is_a_warning(
        launch, capfd, monkeypatch, arguments):
    folder = launch('--sumix', '--sumix-preview', 7, '--epochs', 2, *arguments.split())
    for epoch in (0, 1):
        assert Image.open(folder / f'sumix-{epoch}.png').size == (5 * 232, 2 * 292)
    assert 'no preview' not in capfd.readouterr().err
    assert not list(launch('--sumix', name='without').glob('*.png'))
    monkeypatch.setattr(train_patch.preview, 'draw_preview', lambda *_: 1 / 0)
    assert (launch('--sumix', '--sumix-preview', 4, name='failing') / 'last.pth.tar').is_file()
    assert 'SUMix: no preview: ZeroDivisionError: division by zero' in capfd.readouterr().err


def test_a_preview_waits_for_a_batch_that_shows_two_classes(monkeypatch):
    drawn, several, one = [], torch.arange(4), torch.zeros(4, dtype=torch.int64)
    monkeypatch.setattr(train_patch.preview, 'draw_preview', lambda mixed, *_: drawn.append(mixed))
    monkeypatch.setattr(train_patch.preview, 'normalisation', lambda loader: (0., 1.))
    batches = [('nearly nothing', several, 0.97), ('one class', one, 0.5), ('two', several, 0.6)]
    for chosen in (batches, batches[:2]):
        preview = train_patch.preview.Preview('', 4, torch.utils.data.DataLoader(chosen))
        for name, labels, share in chosen:
            lam = torch.full((4,), share)
            preview(name, MixedTarget(labels, lam, 4), lam)
    assert drawn == ['two', 'one class']  # the last one, where none shows two


def test_help_explains_each_ratio_and_without_sumix_says_where_a_typo_gets_its_name_and_options_are_refused(
        launch, train_script, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        launch('--help')
    lines = capsys.readouterr().out.splitlines()
    assert not end.value.code and '--sumix-ratio' not in '\n'.join(lines)
    assert lines[-1] == f'The --sumix flags: python -m train_patch {train_script} --sumix --help'
    with pytest.raises(SystemExit):
        launch('--sumix', '--help')
    text = ' '.join(capsys.readouterr().out.split())
    assert all(f'{name} ({create().origin})' in text for name, create in RATIOS.items())
    assert '(default: depends on the ratio)' in text and 'None' not in text[text.index('SUMix: turn it on:'):]
    with pytest.raises(SystemExit, match='train_patch: --sumx, did you mean --sumix'):
        launch('--sumx')
    with pytest.raises(SystemExit, match='2'):  # the script's own error
        launch('--mixpu')
    (tmp_path / 'config.yaml').write_text('sumix_gamma: 0.5\n')
    with pytest.raises(SystemExit, match='--sumix-ratio, sumix_gamma has no effect without --sumix'):
        launch('--sumix-ratio', 'feature', '-c', tmp_path / 'config.yaml')


@pytest.mark.parametrize('before, after, said', [
    ((), ('--sumix-ratio', 'similarity', '--sumix-gamma', 0.5), 'has no uncertainty head: it starts anew'),
    (('--sumix', '--sumix-gamma', 0.5), (), 'the uncertainty head of the checkpoint is left out')])
@pytest.mark.parametrize('ema', [(), ('--model-ema',)])
def test_without_the_optimizer_a_run_resumes_with_another_head(launch, caplog, before, after, said, ema):
    first = launch(*before, *ema, name='first')
    resumed = launch(
        '--sumix', *after, *ema, '--epochs', 2, '--resume', first / 'last.pth.tar', '--no-resume-opt', name='resumed')
    assert [said in record.getMessage() for record in caplog.records].count(True) == 1
    assert [row['epoch'] for row in read_summary(resumed)] == [1.]
    assert ('task_state' in _read_checkpoint(resumed / 'last.pth.tar')) == bool(after)
    _assert_loads_into_plain_timm(resumed)


@pytest.mark.parametrize('before, after, message', [
    ((), ('--sumix-gamma', 0.5), 'the checkpoint was made without an uncertainty head, .*same --sumix-uncertainty and '
     '--sumix-gamma, .*--initial-checkpoint.*--no-resume-opt'),
    (('--sumix', '--sumix-gamma', 0.5), ('--epochs', 2), '.*made with an uncertainty head, and this run has none')])
def test_with_the_optimizer_another_head_is_refused_and_the_way_out_named(launch, refused, before, after, message):
    refused(message, *after, '--resume', launch(*before, name='first') / 'last.pth.tar', name='resumed')


@pytest.mark.parametrize('loading', [
    pytest.param(('--workers', 0), marks=pytest.mark.skipif(
        timm.__version__ in ('1.0.27', '1.0.28'), reason='these need a worker')),
    ('--workers', 1), ('--no-prefetcher',)])
@pytest.mark.parametrize('reads', [True, False])
def test_where_the_data_does_not_tell_its_classes_the_first_batch_does(refused, monkeypatch, loading, reads):
    monkeypatch.setattr(train_patch.checks, 'class_index', lambda loader: {})
    if not reads:  # as where labels lie on a GPU
        monkeypatch.setattr('timm_sumix.target.check_range', lambda *_: None)
    refused(rf'{TOO_FEW}labels must be in \[0, 3\), got values from . to 3', '--num-classes', 3, *loading)


@pytest.mark.parametrize('kind, message', [
    (TypeError, 'labels must be an int64 tensor of class indices [N], got torch.int32 [8]; use labels.long()'),
    (ValueError, 'with multi_label, labels must have shape [N, 4], got [8, 3]')])
def test_labels_of_another_kind_are_told_in_one_line_from_a_worker_too(kind, message):
    with pytest.raises(SystemExit) as end, train_patch.checks.exit_on_bad_label(4):
        raise kind(f'Caught {kind} in DataLoader worker process 0.\n  labels must {{be}}\n{kind.__name__}: {message}\n')
    assert str(end.value) == f'train_patch: {message.replace("multi_label", "--task multilabel")}'
    with pytest.raises(kind, match='other'), train_patch.checks.exit_on_bad_label(4):
        raise kind('other')
