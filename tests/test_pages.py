"""The pages of evidence, which are made from committed results."""
import subprocess
import sys

import pytest
from conftest import ROOT

from benchmarks.evidence.__main__ import PAGES
from benchmarks.evidence.blocks import fill


def test_the_pages_hold_what_the_committed_results_make():
    for path in PAGES:
        page = path.read_text()
        assert '<!-- end -->' in page and fill(page) == page
    with pytest.raises(ValueError, match="blocks must be among .* got 'weather'"):
        fill('<!-- weather -->\n<!-- end -->')


def test_the_pages_are_made_without_training_code():
    code = (
        "import sys, benchmarks.evidence.__main__; "
        "print([m for m in ('torch', 'timm', 'timm_sumix') if m in sys.modules])")
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == '[]'
