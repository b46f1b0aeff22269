"""The runner of the paper's tables: its commands, its resuming, and its figures."""
import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from helpers import read_summary

from benchmarks.common.markdown import interval
from benchmarks.runs import TAKEN, make_runs, read_results
from benchmarks.tables import cells, run, table
from train_patch.patch import Patch
from train_patch.script import load_script

RECIPES = sorted((ROOT / 'benchmarks' / 'recipes').glob('*.yaml'))
# of the script that stands in for timm's, those missing are flags of timm's that it leaves out
STAND_IN = str(ROOT / 'benchmarks' / 'train.py')


def _args(train_script=STAND_IN, **kwargs):
    defaults = dict(nproc=1, out=Path('/out'), data_dir=Path('/data'), further=['--aug-repeats', '0'])
    return argparse.Namespace(**{**defaults, **kwargs}, train_script=Path(train_script))


def test_every_row_has_a_recipe_every_recipe_a_row_and_the_cells_of_the_paper_are_all_there():
    rows = {f'{table}-{row}.yaml' for table, found in cells.TABLES.items() for row in found}
    assert rows == {path.name for path in RECIPES}
    papers = ('imagenet', 'cifar100', 'tiny_imagenet', 'cub200', 'fgvc_aircraft')
    printed = [
        paper for table in papers for policies in cells.TABLES[table].values()
        for name, paper in policies.items() if name != 'vanilla']
    assert len(printed) == 48 and all(paper['base'] and paper['sumix'] for paper in printed)


@pytest.mark.parametrize('ratio', ['similarity', 'released'])
@pytest.mark.parametrize('table', list(cells.TABLES))
def test_every_command_and_key_of_a_recipe_is_accepted_by_the_scripts_parser(monkeypatch, train_script, table, ratio):
    found = cells.cells(table, ratio, seeds=1)
    for cell in found:
        parts = cells.command(cell, _args(train_script))
        assert parts[1:3] == ['-m', 'benchmarks.launcher'] and parts[3] == train_script and '--sumix' in parts
        monkeypatch.setattr(sys, 'argv', parts[3:])
        module = load_script(train_script)
        Patch().put_into(module)
        args, _ = module._parse_args()
        assert set(yaml.safe_load(cell.recipe.read_text())) <= {action.dest for action in module.parser._actions}
        assert args.seed == 0 and args.experiment == 'seed0'
    expected = sum(2 * len(policies) - ('vanilla' in policies) for policies in cells.TABLES[table].values())
    assert len({(cell.row, cell.policy, cell.arm) for cell in found}) == expected


def test_arms_differ_in_their_labels_alone():
    arms = {cell.arm: cell for ratio in ('similarity', 'released', 'evidence', 'combined') for cell in cells.cells(
        'tiny_imagenet', ratio, 1, ['resnet18/fmix'])}
    flags = {arm: ' '.join(cells.sumix_flags(cell)) for arm, cell in arms.items()}
    term = '--sumix-uncertainty head --sumix-original-pass grad'
    assert flags == {
        'base': '--sumix --sumix-policy fmix --sumix-ratio area --sumix-gamma 0',
        'similarity': f'--sumix --sumix-policy fmix --sumix-ratio similarity --sumix-gamma 0.5 {term}',
        'evidence': '--sumix --sumix-policy fmix --sumix-ratio evidence',
        'combined': '--sumix --sumix-policy fmix --sumix-ratio combined',
        'released': f'--sumix --sumix-policy fmix --sumix-ratio released --sumix-gamma 1.0 {term}'}


def test_the_batch_is_divided_among_processes_and_rows_choose_runs_and_what_cannot_be_is_refused():
    cell = cells.cells('imagenet', 'similarity', 1)[0]
    parts = cells.command(cell, _args(nproc=4))
    assert parts[parts.index('--batch-size') + 1] == '64' and '--nproc_per_node' in parts
    with pytest.raises(ValueError, match='--nproc must divide the batch size 256 .*, got 3'):
        cells.command(cell, _args(nproc=3))
    assert len(cells.cells('cifar100', 'similarity', 3, ['resnet18/cutmix'])) == 6
    assert {cell.arm for cell in cells.cells('cifar100', 'similarity', 3, ['*/*/base'])} == {'base'}


def _write_run(folder, tops, epochs=None, twice=()):
    folder.mkdir(parents=True)
    (folder / 'args.yaml').write_text(yaml.safe_dump({'epochs': epochs or len(tops), 'model': 'm', 'device': 'cpu'}))
    lines = ['epoch,eval_top1'] + [f'{epoch},{top}' for epoch, top in enumerate(tops)]
    for epoch in twice:
        lines += ['epoch,eval_top1', f'{epoch},{tops[epoch]}']
    (folder / 'summary.csv').write_text('\n'.join(lines) + '\n')


def test_a_runs_figure_is_the_median_of_its_last_epochs(tmp_path):
    tops = [float(epoch) for epoch in range(100)]
    tops[50] = 99.5
    _write_run(tmp_path / 'whole', tops, twice=[70])
    assert run.read_run(tmp_path / 'whole')['top1'] == 97.
    _write_run(tmp_path / 'part', tops[:50], epochs=100)
    assert run.read_run(tmp_path / 'part') is None and run.read_run(tmp_path / 'absent') is None


def test_a_rendered_table_holds_means_intervals_gains_and_gaps():
    rows = {'net': {'cutmix': {'base': 70., 'sumix': 72.}, 'fmix': {'base': None, 'sumix': None}}}
    tops = {'base': [69., 70., 71.], 'similarity': [71., 71., 74.]}
    results = [
        {'row': 'net', 'policy': 'cutmix', 'arm': arm, 'seed': seed, 'top1': top}
        for arm, values in tops.items() for seed, top in enumerate(values)]
    half = 4.302652729749464 / 3 ** 0.5  # Student's t at 2 degrees of freedom, standard deviation 1
    assert interval(tops['base']) == pytest.approx(half) and interval([1.]) is None
    lines = table.render(rows, results).splitlines()
    assert lines[2] == f'| net | cutmix | base | 70.00 ± {half:.2f} (3) | - | 70.00 | +0.00 |'
    assert lines[3].startswith('| net | cutmix | similarity | 72.00 ± ')
    assert '| 2.00 ± 2.48 (3) | 72.00 | +0.00 |' in lines[3]


def test_a_run_that_was_trained_elsewhere_is_read_and_one_that_fails_is_named(tmp_path, capsys):
    whole, other = cells.cells('cifar100', 'similarity', 1, ['resnet18/cutmix'])
    args = _args(out=tmp_path, data_dir=tmp_path / 'nothing', further=['--device', 'cpu'])
    _write_run(cells.run_folder(whole, tmp_path), [50., 60.])
    made = [run.create_run(cell, args) for cell in (whole, other)]
    assert not make_runs(made, {}, jobs=1)
    result, = read_results(made)
    assert result['top1'] == 60. and result['wall_s'] is None and result['command'].startswith('python -m benchmarks')
    log, = (tmp_path / 'cifar100' / 'resnet18').rglob('log.txt')
    assert str(log) in capsys.readouterr().out.replace('\n', '') and log.parent == made[1].folder


@pytest.mark.slow
def test_interrupted_and_killed_runs_end_in_the_same_table(image_folder, train_script, tmp_path):
    flags = (
        '--rows resnet18/cutmix --seeds 1 --model test_resnet --img-size 32 --num-classes 4 --batch-size 16 '
        '--epochs 12 --device cpu --workers 1 --no-aug')

    def start(out):
        return subprocess.Popen([
            sys.executable, '-m', 'benchmarks.tables', 'imagenet', '--data-dir', image_folder, '--out', out,
            '--train-script', train_script, *flags.split()], cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def summaries(out):
        return {str(path.parent.relative_to(out)): read_summary(path.parent) for path in out.rglob('summary.csv')}

    whole, torn, said = tmp_path / 'whole', tmp_path / 'torn', TAKEN
    expected, _ = start(whole).communicate()
    for kill in (signal.SIGINT, signal.SIGKILL, signal.SIGKILL):
        before, process = summaries(torn), start(torn)
        while process.poll() is None and all(
                len(rows) < len(before.get(name, ())) + 2 for name, rows in summaries(torn).items()):
            time.sleep(0.1)  # until it is past the first checkpoint
        process.send_signal(kill)
        process.communicate()
    while TAKEN in said:  # what the killed runners left behind goes on by itself, and is not started twice
        process = start(torn)
        said, _ = process.communicate()
        assert process.returncode == 0, said
    found, wanted = summaries(torn), summaries(whole)
    assert set(found) == set(wanted) and len(found) == 2
    for name, rows in wanted.items():
        assert found[name][-1]['eval_loss'] == rows[-1]['eval_loss'] and len(found[name]) <= len(rows) + 3
        assert {row['epoch'] for row in found[name]} == {row['epoch'] for row in rows}
    table = [line for line in expected.splitlines() if line.startswith('| resnet18')]
    assert table and all(line in said for line in table)
