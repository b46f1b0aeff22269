"""The examples of docs/examples, run from the files themselves."""
import importlib.util
import subprocess
import sys

import pytest
import timm
from conftest import ROOT

pytestmark = pytest.mark.slow
LAUNCH = (
    '-m accelerate.commands.launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no')
TORCHRUN = '-m torch.distributed.run --standalone --nproc_per_node 2'


@pytest.mark.parametrize('name, package, launcher', [
    ('plain_loop', 'torch', ''), ('plain_loop', 'torch', TORCHRUN),
    ('with_accelerate', 'accelerate', LAUNCH), ('with_lightning', 'lightning', ''),
    ('with_transformers', 'transformers', ''), ('with_transformers', 'transformers', TORCHRUN)])
def test_an_example_trains_and_leaves_a_plain_timm_checkpoint(image_folder, tmp_path, name, package, launcher):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install '.[examples]'")
    arguments = '--model test_resnet --size 96 --batch-size 8 --epochs 2'
    command = [
        sys.executable, *launcher.split(), f'docs/examples/{name}.py', *arguments.split(), '--data-dir',
        str(image_folder), '--out', str(tmp_path / 'checkpoint.pth.tar')]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    timm.create_model('test_resnet', num_classes=4, checkpoint_path=str(tmp_path / 'checkpoint.pth.tar'))
