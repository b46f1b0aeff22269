"""Targets that fade: how much of both objects is visible, and what a run does with it."""
import copy

import pytest
import timm
import torch
from helpers import random_batch
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy

from timm_sumix import HeadOutput, MixedTarget, SUMixLoss, SUMixMixup, SUMixOptions, SUMixTask
from timm_sumix.correction import Fading, visible_evidence

MIXUP = {'mixup_alpha': 0., 'cutmix_alpha': 1., 'mode': 'elem', 'num_classes': 4, 'label_smoothing': 0.}


def _reference_totals(batches, num_classes, window):
    """Return {class: total evidence}, sample by sample; `batches` are the steps' lists of (evidence, target)."""
    sums = [[0., 0.] for _ in range(num_classes)]
    for step in batches:
        count = sum(len(target) for _, target in step)
        kept = max(0., 1 - count / (window * num_classes))
        sums = [[kept * value for value in pair] for pair in sums]
        for evidence, target in step:
            for i in range(len(target)):
                cells = target.mask[i, 0].float().unflatten(0, (4, 2)).unflatten(2, (4, 2)).mean((1, 3))
                own, lam = (evidence[i] * cells).sum().item(), target.lam[i].item()
                other = evidence[i].sum().item() - own
                for label, part, area in ((target.labels[i], own, lam), (target.partner_labels[i], other, 1 - lam)):
                    sums[label][0] += part
                    sums[label][1] += area
    return [evidence / area if area else None for evidence, area in sums]


def test_totals_and_weights_follow_the_formula():
    fading, steps = Fading(5, fade=2.), []
    for seed in range(3):
        mixed, _, target = random_batch(7, 5, seed=seed)
        totals = _reference_totals(steps, 5, 320)
        weight = fading(mixed, None, target)
        for i in range(7):
            own = (mixed.evidence[i] * target.visible_fraction((4, 4))[0][i]).sum().item()
            parts = zip((own, mixed.evidence[i].sum().item() - own), (target.labels[i], target.partner_labels[i]))
            seen = sum(1e9 * part if totals[label] is None else part / totals[label] for part, label in parts)
            assert weight[i].item() == pytest.approx(min(1., seen / 2.), abs=1e-4)
        steps.append([(mixed.evidence, target)])
    assert (fading(mixed, None, target) < 1).any()


def test_accumulated_batches_are_one_step():
    whole, parts = Fading(5, 0.6), Fading(5, 0.6)
    for seed in range(4):
        mixed, _, target = random_batch(8, 5, seed=seed)
        rows = [torch.arange(4), torch.arange(4, 8)]
        index = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
        target = MixedTarget(target.labels, target.lam, 5, index=index, mask=target.mask)
        expected = whole(mixed, None, target)
        found = []
        for i, part in enumerate(rows):
            half = MixedTarget(
                target.labels[part], target.lam[part], 5, index=torch.tensor([1, 0, 3, 2]), mask=target.mask[part])
            output = HeadOutput(mixed.logits[part], evidence=mixed.evidence[part])
            found.append(parts(output, None, half, new_step=i == 0))
        torch.testing.assert_close(torch.cat(found), expected)
    torch.testing.assert_close(parts.evidence, whole.evidence)


def test_with_originals_the_weight_is_their_visible_evidence_and_nothing_is_learned():
    mixed, original, target = random_batch(16, 5)
    fading = Fading(5, 1., by_totals=False)
    expected = sum(visible_evidence(original.evidence, target)).clamp(max=1.)
    torch.testing.assert_close(fading(mixed, original, target), expected)
    unmixed = MixedTarget(target.labels, torch.ones(16), 5, mixed=False)
    assert torch.equal(fading(mixed, None, unmixed), torch.ones(16)) and not fading.state_dict()


def test_overflows_and_unknown_classes_do_not_fade_or_reach_the_totals():
    fading = Fading(5, 0.6)
    mixed, _, target = random_batch(16, 5)
    evidence = mixed.evidence.clone()
    evidence[3, 0, 0], evidence[4] = float('nan'), float('inf')
    for _ in range(3):
        weight = fading(mixed._replace(evidence=evidence), None, target)
        assert weight.isfinite().all() and (weight[3:5] == 1).all()
    assert all(buffer.isfinite().all() for buffer in fading.buffers())


@pytest.mark.parametrize('base, rest', [(SoftTargetCrossEntropy(), 0.2), (BinaryCrossEntropy(), 0.)])
def test_a_target_fades_to_equal_probabilities_or_for_binary_losses_to_none(base, rest):
    mixed, _, target = random_batch(8, 5)
    loss = SUMixLoss(base, fade=2., original_pass='none')
    for _ in range(2):
        result = loss(mixed, None, target)
    loss.eval()
    weight = loss.fading(mixed, None, target).unsqueeze(1)
    soft_target = weight * target.soft_target(result['lam']) + (1 - weight) * rest
    assert (weight < 1).any()
    torch.testing.assert_close(loss(mixed, None, target)['classification'], base(mixed.logits, soft_target))


def test_options_that_cannot_fade_are_refused():
    with pytest.raises(ValueError, match="fade 0.6 needs the evidence, which ratio 'similarity' does not read"):
        SUMixOptions('similarity', fade=0.6)
    with pytest.raises(ValueError, match=r'fade must be in \[0, 2\], got 3'):
        SUMixOptions(fade=3.)


def _run(task, optimizer, batches, accumulate=1):
    losses = []
    for i, (images, labels) in enumerate(batches):
        torch.manual_seed(i)
        loss = task(images, labels)['loss']
        losses.append(loss.item())
        (loss / accumulate).backward()
        if (i + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return losses


def _task():
    torch.manual_seed(0)
    model = timm.create_model('test_resnet', num_classes=4, output_stride=8)
    task = SUMixTask(model, SUMixMixup(**MIXUP), original_pass='none', fade=1., verbose=False)
    return task, torch.optim.SGD(task.get_trainable_module().parameters(), lr=0.01)


def _batches(count):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8) % 4) for _ in range(count)]


def test_a_resumed_task_repeats_an_uninterrupted_one():
    task, optimizer = _task()
    _run(task, optimizer, _batches(6)[:3])
    state = copy.deepcopy(task.get_checkpoint_state())
    expected = _run(task, optimizer, _batches(6)[3:])
    resumed, optimizer = _task()
    resumed.load_checkpoint_state(state['state_dict'], state['task_state'])
    assert _run(resumed, optimizer, _batches(6)[3:]) == expected
    fresh, optimizer = _task()
    fresh.load_checkpoint_state(state['state_dict'], {})  # without totals nothing fades at first
    assert _run(fresh, optimizer, _batches(6)[3:]) != expected


def test_the_totals_change_with_the_optimizers_steps_alone():
    task, optimizer = _task()
    seen = []
    task.criterion.fading.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[3]))
    _run(task, optimizer, _batches(6), accumulate=3)
    assert seen == [True, False, False, True, False, False]


def _process(rank, file, results):
    torch.distributed.init_process_group('gloo', init_method=f'file://{file}', rank=rank, world_size=2)
    fading = Fading(5, 0.6)
    for seed in range(3):
        mixed, _, target = random_batch(8, 5, seed=seed)
        rows = slice(4 * rank, 4 * rank + 4)
        own = MixedTarget(
            target.labels[rows], target.lam[rows], 5, mask=target.mask[rows], mixed=not (seed == 1 and rank))
        fading(HeadOutput(mixed.logits.detach()[rows], evidence=mixed.evidence[rows]), None, own)
    torch.save(fading.state_dict(), f'{results}/{rank}.pt')
    torch.distributed.destroy_process_group()


def test_processes_have_equal_totals_which_are_those_of_all_samples(tmp_path):
    torch.multiprocessing.spawn(_process, (tmp_path / 'store', tmp_path), nprocs=2)
    states = [torch.load(tmp_path / f'{rank}.pt') for rank in (0, 1)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    fading = Fading(5, 0.6)
    for seed in range(3):
        mixed, _, target = random_batch(8, 5, seed=seed)
        for rank in (0, 1):
            rows = slice(4 * rank, 4 * rank + 4)
            own = MixedTarget(
                target.labels[rows], target.lam[rows], 5, mask=target.mask[rows], mixed=not (seed == 1 and rank))
            output = HeadOutput(mixed.logits.detach()[rows], evidence=mixed.evidence[rows])
            fading(output, None, own, new_step=rank == 0)
    for name, value in fading.state_dict().items():
        torch.testing.assert_close(states[0][name], value)


def test_batches_of_several_sizes_have_the_weights_of_one_size():
    fadings = [Fading(10, 1.5) for _ in range(2)]
    for step in range(4):
        mixed, _, target = random_batch(32, 10, seed=step)
        larger = mixed.evidence.repeat_interleave(2, 1).repeat_interleave(2, 2) if step % 2 else mixed.evidence
        weights = [
            fading(mixed._replace(evidence=evidence), None, target)
            for fading, evidence in zip(fadings, (mixed.evidence, larger))]
        torch.testing.assert_close(*weights)
    assert (weights[0] < 1).any() and (weights[0] > 0).any()
