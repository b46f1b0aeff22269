"""The pages, whose tables are made from committed results."""
import subprocess
import sys

import pytest
from conftest import ROOT

from benchmarks.report import real_tables, runs
from benchmarks.report.__main__ import PAGES
from benchmarks.report.blocks import fill
from benchmarks.report.model_tables import settings_table
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
        ['unmixed', '1', '73.0', '+1.00'], ['area', '2', '71.0', '-'], ['feature', '1', '71.0', '-']]


def test_the_default_that_tables_mark_is_the_librarys():
    assert SUMixOptions().ratio == real_tables.DEFAULT
