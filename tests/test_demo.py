import json
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_demo_makes_a_table_and_a_picture(tmp_path):
    command = [
        sys.executable, '-m', 'benchmarks.demo', '--out', str(tmp_path / 'demo'), '--train-images', '256',
        '--test-images', '200', '--epochs', '2']
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / 'demo' / 'results.json').read_text())
    assert [row['label'] for row in figures['rows']] == [None, 'area', 'corrected', None] and figures['pairs'] > 100
    assert all(-1 <= row['spearman'] <= 1 and 0 <= row['mae'] <= 1 for row in figures['rows'][1:3])
    for picture in ('cutmix-sumix/sumix-1.png', 'labels.png'):
        assert (tmp_path / 'demo' / picture).is_file()
    assert result.stdout.count('epoch 2 of 2') == 4  # a line an epoch also where the output is piped
