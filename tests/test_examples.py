"""The examples of docs/examples, run from the files themselves."""
import importlib.util
import re
import subprocess
import sys
from functools import partial

import pytest
import timm
import torch
import torchvision
from conftest import ROOT

pytestmark = pytest.mark.slow
LAUNCH = (
    '-m accelerate.commands.launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no')
TORCHRUN = '-m torch.distributed.run --standalone --nproc_per_node 2'


def _run(name, image_folder, out, model='test_resnet', launcher=''):
    """Return what an example writes to its logger and prints."""
    arguments = f'--model {model} --size 96 --batch-size 8 --epochs 2'
    command = [
        sys.executable, *launcher.split(), f'docs/examples/{name}.py', *arguments.split(), '--data-dir',
        str(image_folder), '--out', str(out)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout + result.stderr


@pytest.mark.parametrize('name, package, launcher', [
    ('plain_loop', 'torch', ''), ('plain_loop', 'torch', TORCHRUN),
    ('with_accelerate', 'accelerate', LAUNCH), ('with_lightning', 'lightning', ''),
    ('with_transformers', 'transformers', ''), ('with_transformers', 'transformers', TORCHRUN)])
def test_an_example_trains_and_leaves_a_plain_timm_checkpoint(image_folder, tmp_path, name, package, launcher):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install '.[examples]'")
    _run(name, image_folder, tmp_path / 'checkpoint.pth.tar', launcher=launcher)
    timm.create_model('test_resnet', num_classes=4, checkpoint_path=str(tmp_path / 'checkpoint.pth.tar'))


@pytest.mark.parametrize('model, create', [
    ('resnet18', torchvision.models.resnet18),
    ('vit', partial(torchvision.models.VisionTransformer, 96, 16, 12, 3, 192, 768))], ids=['resnet18', 'vit'])
def test_the_parts_of_a_torchvision_model_are_found_and_its_own_checkpoint_left(image_folder, tmp_path, model, create):
    log = _run('with_torchvision', image_folder, tmp_path / 'model.pth', model)
    assert re.search(r"'shift': 0\.[0-9]*[1-9]", log) and 'by area' not in log
    create(num_classes=4).load_state_dict(torch.load(tmp_path / 'model.pth'))
