"""What is summed over an epoch; the means themselves are tested with the task."""
import torch

from timm_sumix import MixedTarget
from timm_sumix.metrics import Metrics


def _add(metrics, classification, uncertainty=0.):
    lam = torch.tensor([0.5, 0.5])
    metrics.add(MixedTarget(torch.tensor([0, 1]), lam, 2), {
        'lam': lam, 'classification': torch.tensor(classification), 'uncertainty': torch.tensor(uncertainty)})


def test_the_first_step_that_was_not_finite_is_named_by_part():
    metrics = Metrics()
    for classification, uncertainty in ((1., 0.), (float('nan'), 0.), (1., float('inf')), (float('nan'), 0.)):
        _add(metrics, classification, uncertainty)
    assert metrics.pop()['lam'] == 0.5 and metrics.not_finite == {'classification': 1, 'uncertainty': 2}
    _add(metrics, 1.)
    assert metrics.pop()['classification'] == 1. and metrics.not_finite == {}
    assert metrics.pop() == {} and metrics.not_finite == {}


def test_a_loop_that_never_reads_them_keeps_few_and_means_stay_right():
    metrics = Metrics()
    for step in range(1500):
        _add(metrics, float(step), float('inf') if step in (700, 1400) else 0.)
        assert len(metrics._rows) < 512
    assert metrics.pop()['classification'] == 749.5 and metrics.not_finite == {'uncertainty': 700}
