"""Every architecture of timm trains with the defaults."""
import pytest
from timm.models import list_models, list_modules

from benchmarks.zoo import MODELS, measure


def test_every_module_of_timm_that_has_models_is_tried():
    timms = set(list_modules()) - {'models'}  # benchmarks.models registers its own, where a test has loaded it
    assert set(MODELS) == {module for module in timms if list_models(module=module)}
    assert all(name in list_models(module=module) for module, name in MODELS.items())


@pytest.mark.slow
@pytest.mark.parametrize('module', list(MODELS))
def test_an_architecture_has_a_map_and_trains(module):
    height, width = measure(MODELS[module])['map']
    assert height > 1 and width > 1
