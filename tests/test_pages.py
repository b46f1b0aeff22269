"""The pages, whose tables are made from committed results."""
import subprocess
import sys

import pytest
from conftest import ROOT

from benchmarks.report import real_tables, runs
from benchmarks.report.__main__ import PAGES
from benchmarks.report.blocks import fill
from benchmarks.report.model_tables import settings_table
from benchmarks.report.speed_tables import cost_sentence
from timm_sumix import SUMixOptions


def test_the_pages_hold_what_the_committed_results_make():
    for path in PAGES:
        page = path.read_text()
        assert '<!-- end -->' in page and fill(page) == page
    with pytest.raises(ValueError, match="blocks must be among .* got 'weather'"):
        fill('<!-- weather -->\n<!-- end -->')


def test_the_pages_are_made_without_training_code():
    code = (
        "import sys, benchmarks.report.__main__; "
        "print([m for m in ('torch', 'timm', 'timm_sumix') if m in sys.modules])")
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == '[]'


def test_a_table_shows_the_arms_and_seeds_that_there_are(monkeypatch):
    def run(arm, seed, top1):
        return {'setting': 'plain', 'arm': arm, 'seed': seed, 'top1': top1, 'nll': 1., 'ece': 2.}

    found = [run('area', 0, 70.), run('area', 1, 72.), run('unmixed', 1, 73.), run('feature', 2, 71.)]
    monkeypatch.setattr(runs, 'read_result', lambda name: {'settings': ['plain'], 'runs': found})
    lines = settings_table('any', ('unmixed', 'paper', 'area', 'feature')).splitlines()[2:]
    assert [[cell.strip() for cell in line.split('|')[2:6]] for line in lines] == [
        ['unmixed', '1', '73.0 / 1.000 / 2.0', '+1.00'], ['area', '2', '71.0 / 1.000 / 2.0', '-'],
        ['feature', '1', '71.0 / 1.000 / 2.0', '-']]


def test_the_rule_of_the_default_is_applied_to_the_means_over_the_seeds(monkeypatch):
    def run(setting, arm, seed, top1, nll, ece):
        return {
            'setting': setting, 'arm': arm, 'seed': seed, 'calibrated': {'nll': 0.9, 'ece': 1., 'temperature': 1.},
            'top1': top1, 'nll': nll, 'ece': ece}

    scores = {
        'area': (70., 1., 5.), 'similarity': (70.6, 0.8, 0.9), 'combined': (70.6, 0.8, 1.1),
        'evidence': (70.4, 0.8, 0.9)}
    found = [
        run(setting, arm, seed, *own)
        for setting in real_tables.SETTINGS for arm, own in scores.items() for seed in (0, 1)]
    monkeypatch.setattr(runs, 'read_result', lambda name: {'settings': list(real_tables.SETTINGS), 'runs': found})
    lines = [[cell.strip() for cell in line.split('|')] for line in real_tables.verdict_table().splitlines()[2:]]
    assert {line[1]: line[-2] for line in lines} == {'`similarity`': 'yes', '`combined`': 'no', '`evidence`': 'no'}


def test_page_one_says_the_cost_that_was_measured():
    page = ' '.join((ROOT / 'README.md').read_text().split())
    assert cost_sentence() in page


def test_the_default_that_tables_mark_is_the_librarys():
    assert SUMixOptions().ratio == real_tables.DEFAULT
