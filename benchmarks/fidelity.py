"""How true is each label? Labels of mixed test images against the share of each object that is visible in truth.

python -m benchmarks.fidelity [--scenes S ...] [--shares 0.05 0.2 0.4 0.6 1.0] [--seeds 1] [--jobs 2] [--out FILE]
python -m benchmarks.fidelity --rescore tests/data/predictions.npz      (scores of saved predictions, beside them)

For each scene a judge is trained with CutMix, its labels by area; then its test images are mixed, and each way to label
them is compared with the truth: Spearman's correlation, mean absolute error, and calibration (mean absolute difference
between label and truth in ten bins of the label).
"""
import argparse
import multiprocessing
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from rich.progress import track
from torchmetrics.functional import spearman_corrcoef
from torchmetrics.functional.classification import multiclass_accuracy

from timm_sumix import HeadOutput, MixedTarget, SUMixMixup
from timm_sumix.correction import RATIOS, create_ratio
from timm_sumix.correction.ratios import Evidence
from timm_sumix.mixing.policies import POLICIES
from timm_sumix.passes import SUMixModule

from .placed import DEBIAN_FOLDER, load_digits_objects, load_objects, place, true_lam
from .record import ROOT, describe_run, write_result
from .rivals import RULES, TRIED, AttentionOfClassToken, visible_share
from .training import ImageSet, create_model, cutmix, predict, to_image_set, train

CANVAS, BATCH = 32, 128
SWEEPS = {
    'similarity': (0.5, 1., 2., 3., 4., 8.), 'feature': (1., 2., 4., 8., 16.), 'evidence': (0., 1., 2., 4., 8.)}
POWERS = (1, 2, 3, 4, 6)


class Scene(NamedTuple):
    """What the canvases show: share of the canvas of each object's box, objects a canvas, clutter, data, the judge."""
    share: float = 0.2
    copies: int = 1
    clutter: str = 'pieces'
    data: str = 'Fashion-MNIST'
    judge: str = 'cnn'


SCENES = {
    'several': Scene(share=0.1, copies=3),
    'photographs': Scene(clutter='photographs'),
    'digits': Scene(data='digits'),
    'vit': Scene(judge='vit'),
}


class Judged(NamedTuple):
    """One mixed batch as a judge sees it: outputs, target, and the true shares [N], NaN where neither is visible."""
    mixed: HeadOutput
    original: HeadOutput
    target: MixedTarget
    true: torch.Tensor


def make_data(scene: Scene, images: int, test_images: int, seed: int) -> Tuple[ImageSet, ImageSet]:
    """Return training and test images of a scene."""
    splits = (load_objects(DEBIAN_FOLDER) if scene.data == 'Fashion-MNIST' else load_digits_objects())[2:]
    return tuple(
        to_image_set(place(
            objects, count, CANVAS, round(CANVAS * scene.share ** 0.5), 2 * seed + part, scene.copies, scene.clutter))
        for part, (objects, count) in enumerate(zip(splits, (images, test_images))))


@torch.no_grad()
def judge_batches(
        model: torch.nn.Module,
        data: ImageSet,
        mixup: SUMixMixup,
        seed: int,
        rules: Dict[str, Callable[..., torch.Tensor]],
) -> Tuple[List[Judged], Dict[str, List[torch.Tensor]]]:
    """Mix the test images in batches of 128; return what the judge says, and the shares by the rules."""
    torch.manual_seed(seed)
    both = SUMixModule(model, features=True, evidence=True)
    batches, shares = [], {name: [] for name in rules}
    for images, labels, masks in zip(*(part.split(BATCH) for part in (data.images, data.labels, data.masks))):
        x, target = mixup(images, labels)
        true = true_lam(masks, target.partner(masks), *target.visible_fraction((CANVAS, CANVAS)))
        batches.append(Judged(*both(x, target.original), target, true))
        for name, rule in rules.items():
            shares[name].append(rule(model, x, target, masks))
    return batches, shares


def score(label: torch.Tensor, true: torch.Tensor) -> Dict[str, float]:
    """Return Spearman's correlation with the truth, mean absolute error, and calibration of shares [N]."""
    bins = (label * 10).long().clamp(max=9)
    gaps = [(label[bins == b] - true[bins == b]).sum().abs() for b in range(10)]
    return {
        'spearman': spearman_corrcoef(label, true).item(),
        'mae': (label - true).abs().mean().item(),
        'calibration': (sum(gaps) / len(label)).item(),
    }


def usable(batches: List[Judged]) -> torch.Tensor:
    """Return which samples are compared [N]: two classes, and at least one of the objects is visible."""
    return torch.cat([(b.target.labels != b.target.partner_labels) & ~b.true.isnan() for b in batches])


def compare(
        batches: List[Judged],
        shares: Dict[str, List[torch.Tensor]],
        sweep: bool = False,
) -> List[Dict[str, Any]]:
    """Return a row of scores for each ratio (and, in a sweep, each temperature) and each rule."""
    use, true = usable(batches), torch.cat([batch.true for batch in batches])
    tried = SWEEPS if sweep else {'similarity': (2.,), 'feature': (8.,), 'evidence': (0., 1., 8.)}
    labels = {
        (name, value): [create_ratio(name, value)(b.mixed, b.original, b.target) for b in batches]
        for name in RATIOS for value in tried.get(name, (None,))}
    labels.update({(name, None): parts for name, parts in shares.items()})
    return [
        {'label': name, 'strength': value, **score(torch.cat(parts)[use], true[use])}
        for (name, value), parts in labels.items()]


def compare_powers(batches: List[Judged], power: float) -> List[Dict[str, Any]]:
    """Return a row of scores of ratio 'evidence' at each strength, for one power of the evidence."""
    use, true = usable(batches), torch.cat([batch.true for batch in batches])
    return [
        {'label': 'evidence', 'strength': strength, **score(
            torch.cat([Evidence(strength, power)(b.mixed, b.original, b.target) for b in batches])[use], true[use])}
        for strength in (0., 1., 8.)]


def train_judge(
        scene: Scene,
        data: ImageSet,
        test: ImageSet,
        epochs: int,
        seed: int,
        after_epoch: Optional[Callable[[torch.nn.Module, int], None]] = None,
) -> Tuple[torch.nn.Module, float]:
    """Train a judge with CutMix's labels; return it and its top-1 in percent."""
    torch.manual_seed(seed)
    model = create_model() if scene.judge == 'cnn' else create_model(
        model_name='vit_tiny_patch16_224', img_size=CANVAS, patch_size=4, embed_dim=64, depth=4, num_heads=4)
    train(
        model, data, cutmix(), epochs=epochs, seed=seed, lr=4e-3 if scene.judge == 'cnn' else 2e-3,
        task_kwargs={'ratio': 'area', 'gamma': 0.},
        after_epoch=None if after_epoch is None else lambda epoch: after_epoch(model, epoch))
    return model, 100 * multiclass_accuracy(
        predict(model, test.images), test.labels, num_classes=10, average='micro').item()


def find_rules(scene: Scene, model: torch.nn.Module) -> Dict[str, Callable[..., torch.Tensor]]:
    """Return the rivals that fit the judge: maps of classes for a CNN, attention for a transformer."""
    if scene.judge == 'cnn':
        return {'snapmix': RULES['snapmix'], 'lumix': RULES['lumix']}
    attention = AttentionOfClassToken(model)

    def transmix(_, mixed, target, masks):
        seen = attention(mixed)
        first, _ = target.visible_fraction(tuple(seen.shape[-2:]))
        return (seen * first).sum((1, 2)) / seen.sum((1, 2))

    return {
        'transmix': transmix, 'attention of originals': lambda _, x, target, masks: visible_share(
            attention(target.original), target), 'lumix': RULES['lumix']}


def run_scene(job: Tuple[str, Scene, int, int, int, int, Optional[Path]]) -> List[Dict[str, Any]]:
    """Train a scene's judge and return rows of scores; the scene 'share 0.2' has policies, sweeps and epochs too."""
    name, scene, images, epochs, test_images, seed, predictions = job
    torch.set_num_threads(1)
    data, test = make_data(scene, images, test_images, seed)
    in_full, rows = name == 'share 0.2', []

    def add(part: str, results: List[Dict[str, Any]], **more: Any) -> None:
        rows.extend({'scene': name, 'seed': seed, 'part': part, **more, **row} for row in results)

    def after_epoch(model, epoch):
        if in_full and epoch in (1, 2, 3, 5, 8, 12, epochs):
            add('epochs', compare(*judge_batches(model, test, cutmix(), seed, find_rules(scene, model))), epoch=epoch)

    model, top1 = train_judge(scene, data, test, epochs, seed, after_epoch)
    rules, tried = find_rules(scene, model), TRIED if name in ('share 0.2', 'share 1') else {}
    batches, shares = judge_batches(model, test, cutmix(), seed, {**rules, **tried})
    invisible = torch.cat([b.true.isnan() for b in batches]).float().mean().item()
    scores = compare(batches, shares)
    own = [row for row in scores if row['label'] not in TRIED]
    add('scene', own, top1=top1, pairs=int(usable(batches).sum()), neither_visible=invisible)
    if tried:
        add('tried', [row for row in scores if row['label'] in (*TRIED, 'evidence', 'area')])
    if in_full:
        add('strengths', compare(batches, {}, sweep=True))
        for power in POWERS:
            add('power', compare_powers(batches, power), power=power)
        for policy in POLICIES:
            alpha = {} if policy == 'smoothmix' else {'alpha': 1.}
            mixup = cutmix(policy=policy, policy_kwargs=alpha)
            add('policies', compare(*judge_batches(model, test, mixup, seed, rules)), policy=policy)
        if predictions is not None:
            write_predictions(predictions, batches[:3])
    return rows


def write_predictions(path: Path, batches: List[Judged]) -> None:
    """Save what a judge said of a few batches: outputs, masks and truth, no images."""
    def join(values):
        return torch.cat(values).half().numpy()

    masks = torch.cat([batch.target.mask for batch in batches])
    np.savez_compressed(
        path,
        **{f'{part}_{field}': join([getattr(getattr(batch, part), field) for batch in batches])
           for part in ('mixed', 'original') for field in ('logits', 'features')},
        evidence=join([batch.original.evidence for batch in batches]),
        mask=np.packbits(masks.numpy()), mask_shape=np.array(masks.shape),
        labels=torch.cat([batch.target.labels for batch in batches]).byte().numpy(),
        true=torch.cat([batch.true for batch in batches]).numpy(), batch_size=np.array(BATCH))


def read_predictions(path: Path) -> List[Judged]:
    """Return the batches that write_predictions saved."""
    saved = np.load(path)
    shape = tuple(saved['mask_shape'])
    mask = torch.from_numpy(np.unpackbits(saved['mask'], count=int(np.prod(shape))).reshape(shape)).bool()
    batches = []
    for start in range(0, len(mask), int(saved['batch_size'])):
        rows = slice(start, start + int(saved['batch_size']))

        def tensor(name, rows=rows):
            return torch.from_numpy(saved[name][rows]).float()

        target = MixedTarget(
            torch.from_numpy(saved['labels'][rows]).long(), mask[rows].float().mean((1, 2, 3)), 10, mask=mask[rows])
        batches.append(Judged(
            HeadOutput(tensor('mixed_logits'), features=tensor('mixed_features')),
            HeadOutput(tensor('original_logits'), None, tensor('original_features'), tensor('evidence')),
            target, tensor('true')))
    return batches


def main() -> None:
    """Judge every scene and write the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--shares', type=float, nargs='*', default=[0.05, 0.2, 0.4, 0.6, 1.0],
                        help="share of the canvas that an object's box takes, one scene each")
    parser.add_argument('--scenes', nargs='*', choices=list(SCENES), default=list(SCENES), help='further scenes')
    parser.add_argument('--images', type=int, default=20000, help='training images of a judge (default: 20000)')
    parser.add_argument('--test-images', type=int, default=5000, help='test images (default: 5000)')
    parser.add_argument('--epochs', type=int, default=15, help='epochs of a judge (default: 15)')
    parser.add_argument('--seeds', type=int, default=1, help='number of seeds, counted from 0 (default: 1)')
    parser.add_argument('--jobs', type=int, default=2, help='judges at a time, one thread each (default: 2)')
    parser.add_argument('--out', type=Path, default=ROOT / 'benchmarks' / 'results' / 'fidelity.json')
    parser.add_argument('--predictions', type=Path, help="save a few predictions of share 0.2's judge, seed 0, here")
    parser.add_argument('--rescore', type=Path, help='score these saved predictions instead')
    args = parser.parse_args()
    if args.rescore:
        rows = compare(read_predictions(args.rescore), {})
        write_result(args.rescore.with_suffix('.json'), {**describe_run('benchmarks.fidelity', 0), 'rows': rows})
        return
    for share in args.shares:
        if not 0. < share <= 1.:
            parser.error(f'--shares must be in (0, 1], got {share}')
    scenes = {**{f'share {share:g}': Scene(share) for share in args.shares}, **{n: SCENES[n] for n in args.scenes}}
    jobs = [
        (name, scene, args.images, args.epochs, args.test_images, seed, None if seed else args.predictions)
        for seed in range(args.seeds) for name, scene in scenes.items()]
    description = describe_run('benchmarks.fidelity', list(range(args.seeds)))
    with multiprocessing.get_context('spawn').Pool(args.jobs) as pool:
        rows = [row for rows in track(pool.imap_unordered(run_scene, jobs), total=len(jobs), description='Judges')
                for row in rows]
    write_result(args.out, {**description, 'rows': rows})


if __name__ == '__main__':
    main()
