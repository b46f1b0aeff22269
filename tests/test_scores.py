"""Scores of a classifier, before and after it is calibrated."""
import pytest
import torch

from benchmarks.common.scores import agreement, calibrated, classification, fit_temperature


def test_scores_of_labels_say_how_far_they_are_from_the_truth():
    true = torch.linspace(0, 1, 101)
    perfect, flat = agreement(true, true), agreement(torch.full_like(true, 0.5), true)
    assert perfect['spearman'] == pytest.approx(1.) and perfect['mae'] == perfect['calibration'] == 0.
    assert flat['mae'] == pytest.approx(0.2525, abs=1e-3) and flat['calibration'] == pytest.approx(0., abs=1e-6)
    assert agreement(1. - true, true)['spearman'] == pytest.approx(-1.)
    assert agreement((true + 0.2).clamp(max=1.), true)['calibration'] == pytest.approx(0.18, abs=1e-2)


def _sure_of(temperature, count=20000, spread=2.):
    """Return logits [count, 10] and labels drawn from them, the logits then multiplied by `temperature`."""
    torch.manual_seed(0)
    logits = spread * torch.randn(count, 10)
    return temperature * logits, torch.distributions.Categorical(logits=logits).sample()


@pytest.mark.parametrize('temperature', [0.25, 1., 4.])
def test_a_calibrated_model_has_the_scores_of_one_that_never_was_too_sure(temperature):
    found, wanted = calibrated(*_sure_of(temperature)), classification(*_sure_of(1.))
    for fitted in (fit_temperature(*_sure_of(temperature)), found['temperature']):
        assert fitted == pytest.approx(temperature, rel=0.03)
    assert found['nll'] == pytest.approx(wanted['nll'], abs=1e-3) and found['ece'] < 1.
    assert temperature == 1. or classification(*_sure_of(temperature))['ece'] > 10.
    assert set(found) == {'temperature', 'nll', 'ece'}  # the order of the classes, and so top-1, stays


def test_no_image_is_scored_by_a_temperature_that_it_helped_to_fit():
    logits, labels = _sure_of(1., 1000)
    logits[1::2] *= 4.  # every second image is too sure: the others are then divided by 4, and these by 1
    expected = logits.clone()
    expected[::2] /= fit_temperature(logits[1::2], labels[1::2])
    expected[1::2] /= fit_temperature(logits[::2], labels[::2])
    found = calibrated(logits, labels)
    assert found['nll'] == pytest.approx(classification(expected, labels)['nll'], rel=1e-5)
    assert found['temperature'] == pytest.approx(2.5, rel=0.1)
    assert found['nll'] > 1.2 * calibrated(*_sure_of(1., 1000))['nll']
