"""Drop-ins for timm.data.Mixup and timm.data.FastCollateMixup that mix on the device and keep labels correctable.

Deviations from timm's classes: parameters are drawn from torch's generators, on x's device, or on the host what CutMix
and mixup draw for a whole batch; x is left untouched; batches of any size are mixed (the middle image of an odd batch
is its own partner); the target is a MixedTarget; and mode 'half' does not exist.
"""
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from timm.data import FastCollateMixup, Mixup
from timm.data.loader import fast_collate
from torch.utils.data import default_collate

from ..labels import check_labels, check_smoothing
from ..region import Mixing
from ..target import MixedTarget
from .blend import blend
from .draws import Draws, draw_for_batch, draw_for_each
from .policies import Policy, create_policy, policy_names, split_kwargs
from .policies.cutmix import CutMix
from .policies.sampling import check_range

MODES = ('batch', 'pair', 'elem')


class SUMixMixup(Mixup):
    """Mix a batch with its reverse, as timm.data.Mixup does, and return a target whose shares can be corrected.

    Args:
        mixup_alpha: Alpha of mixup; timm's choice includes mixup if greater than 0.
        cutmix_alpha: Alpha of CutMix; timm's choice includes CutMix if greater than 0.
        cutmix_minmax: Range of CutMix's box sides, as shares of the image's; turns CutMix on, overrides its alpha.
        prob: Probability that a batch (or pair, or element) is mixed.
        switch_prob: Probability of CutMix rather than mixup where timm's choice includes both.
        mode: What one drawing is for: the 'batch', a 'pair' of images, or each 'elem'.
        correct_lam: For CutMix, lam is the exact share of pixels kept (True) or the share drawn (False). For the other
            policies it is the exact share.
        label_smoothing: Label smoothing, in [0, 1).
        num_classes: Number of classes.
        policy: None: timm's choice of mixup and CutMix by the alphas above. A policy's name, a Policy object of your
            own, or a list of them to draw from, replaces it; then the policy's own alpha (its paper's) is used where
            the one above is 0.
        policy_kwargs: Options of the named policy, or {name: options} for several.
        multi_label: Whether an image may have several classes: labels are [N, C], floating point, and label smoothing
            is towards 0.5, as in newer timm's Mixup.
        policy_probs: Probability of each policy, in their order, summing to 1; None: equal ones.

    Raises:
        ValueError: If an argument is out of range or unknown, or would have no effect.
    """

    def __init__(
            self,
            mixup_alpha: float = 1.,
            cutmix_alpha: float = 0.,
            cutmix_minmax: Optional[Sequence[float]] = None,
            prob: float = 1.,
            switch_prob: float = 0.5,
            mode: str = 'batch',
            correct_lam: bool = True,
            label_smoothing: float = 0.1,
            num_classes: int = 1000,
            policy: Optional[Union[str, Policy, Sequence[Union[str, Policy]]]] = None,
            policy_kwargs: Optional[Dict[str, Any]] = None,
            multi_label: bool = False,
            policy_probs: Optional[Sequence[float]] = None,
    ):
        _check_numbers(mode, prob, switch_prob, mixup_alpha, cutmix_alpha, num_classes)
        check_smoothing(label_smoothing)
        if cutmix_minmax is not None:
            check_range('cutmix_minmax', cutmix_minmax, 0., 1.)
        super().__init__(
            mixup_alpha=mixup_alpha,
            cutmix_alpha=cutmix_alpha,
            cutmix_minmax=cutmix_minmax,
            prob=prob,
            switch_prob=switch_prob,
            mode=mode,
            correct_lam=correct_lam,
            label_smoothing=label_smoothing,
            num_classes=num_classes,
        )
        self.multi_label, self.policy = multi_label, policy  # timm 1.0.28 and older have no multi_label
        if policy is None and (policy_kwargs or policy_probs):
            raise ValueError(
                f'policy_kwargs and policy_probs need a policy to be named, got {policy_kwargs} and {policy_probs}')
        if policy is None:
            self.policies, self.policy_probs = self._timm_choice()
        else:
            entries = [policy] if isinstance(policy, (str, Policy)) else list(policy)
            self.policies = self._create_policies(entries, policy_kwargs)
            self.policy_probs = _check_probs(policy_probs, len(self.policies))

    def _timm_choice(self) -> Tuple[List[Policy], List[float]]:
        policies, probs = [], []
        if self.mixup_alpha > 0:
            policies.append(create_policy('mixup', alpha=self.mixup_alpha))
            probs.append(1. - self.switch_prob)
        if self.cutmix_alpha > 0:  # timm sets it to 1 where cutmix_minmax is given
            policies.append(self._cutmix(alpha=self.cutmix_alpha))
            probs.append(self.switch_prob)
        if not policies:
            raise ValueError('one of mixup_alpha > 0, cutmix_alpha > 0, cutmix_minmax or policy must be given')
        return policies, probs if len(policies) > 1 else [1.]

    def _create_policies(
            self, entries: List[Union[str, Policy]], policy_kwargs: Optional[Dict[str, Any]]) -> List[Policy]:
        names = [entry for entry in entries if not isinstance(entry, Policy)]
        if names or not entries:
            policy_names(self.policy if isinstance(self.policy, str) else names)  # raises for an unknown one
        # 0 and 1 are the defaults of timm's arguments; anything else was meant to have an effect
        if 'cutmix' not in names and (self.cutmix_alpha not in (0., 1.) or self.cutmix_minmax or not self.correct_lam):
            raise ValueError(f"cutmix_alpha, cutmix_minmax and correct_lam need 'cutmix' among the policies {names}")
        if 'mixup' not in names and self.mixup_alpha not in (0., 1.):
            raise ValueError(f"mixup_alpha {self.mixup_alpha} needs 'mixup' among the policies {names}")
        options = split_kwargs(names, policy_kwargs)
        return [
            entry if isinstance(entry, Policy) else self._create_policy(entry, options.get(entry, {}))
            for entry in entries]

    def _create_policy(self, name: str, options: Dict[str, Any]) -> Policy:
        alpha = {'mixup': self.mixup_alpha, 'cutmix': self.cutmix_alpha}.get(name, 0.)
        kwargs = {**({'alpha': alpha} if alpha > 0 else {}), **options}
        return self._cutmix(**kwargs) if name == 'cutmix' else create_policy(name, **kwargs)

    def _cutmix(self, **kwargs: Any) -> Policy:
        minmax = tuple(self.cutmix_minmax) if self.cutmix_minmax else None
        return create_policy('cutmix', **{'minmax': minmax, 'correct_lam': self.correct_lam, **kwargs})

    @property
    def corrected_part(self) -> float:
        """Part of the images, in [0, 1], mixed by a policy whose share a ratio can correct (not mixup's)."""
        return self.mix_prob * sum(
            prob for policy, prob in zip(self.policies, self.policy_probs) if not policy.exact_lam)

    @property
    def labels_by_draw(self) -> bool:
        """Whether a CutMix labels by the share that it drew, not by that of the pixels kept (correct_lam=False)."""
        return any(isinstance(own, CutMix) and not own.correct_lam and own.minmax is None for own in self.policies)

    def draw(self, x: torch.Tensor) -> Optional[Draws]:
        """Draw the parameters for a batch [N, C, H, W], on its device; None if nothing is to be mixed."""
        if not self.mixup_enabled or self.mix_prob == 0. or len(x) == 0:
            return None
        if self.mode == 'batch':
            return draw_for_batch(self.policies, self.policy_probs, self.mix_prob, x)
        return draw_for_each(self.policies, self.policy_probs, self.mix_prob, x, in_pairs=self.mode == 'pair')

    @torch.no_grad()
    def mix(
            self,
            x: torch.Tensor,
            labels: torch.Tensor,
            draws: Optional[Draws],
            object_mask: Optional[torch.Tensor] = None,
    ) -> Tuple[torch.Tensor, MixedTarget]:
        """Apply what was drawn to a batch; see `__call__`."""
        if x.ndim != 4 or not x.is_floating_point():
            raise ValueError(
                'x must be images [N, C, H, W] of a floating dtype, normalised, as the model takes them '
                f"(timm's PrefetchLoader makes them so), got {x.dtype} {list(x.shape)}")
        if len(x) != len(labels):
            raise ValueError(f'x and labels must be of one length, got {len(x)} images and {len(labels)} labels')
        settings: Dict[str, Any] = {
            'num_classes': self.num_classes, 'smoothing': self.label_smoothing, 'original': x,
            'object_mask': object_mask}
        if self.multi_label != (getattr(labels, 'ndim', 1) == 2):  # else the target checks them
            check_labels(labels, self.num_classes, self.multi_label)
        if draws is None:
            return x, MixedTarget(labels, None, **settings)
        mixed, lam, mask, partner_mask, exact = blend(draws, x)
        complementary = partner_mask is None and (self.mode == 'pair' or len(mask) == 1)
        mixing = Mixing(len(x), mask, partner_mask, complementary=complementary, exact=exact)
        return mixed, MixedTarget(labels, lam, mask=mixing, **settings)

    def __call__(
            self, x: torch.Tensor, labels: torch.Tensor, object_mask: Optional[torch.Tensor] = None,
    ) -> Tuple[torch.Tensor, MixedTarget]:
        """Mix each image with that at the same place of the reversed batch.

        Args:
            x: Images [N, C, H, W], of a floating dtype, on any device. Left untouched.
            labels: Classes [N], int64; with multi_label [N, C], floating point, in [0, 1].
            object_mask: Where the object is in each image [N, 1, H, W], bool or in [0, 1], on x's device, if you know
                it: then labels are by what is visible of each object, see MixedTarget. MaskedDataset carries masks
                through timm's transforms.

        Returns:
            The mixed images, like x, and their MixedTarget, with x as `target.original`. No gradient flows through the
            mixing.

        Raises:
            TypeError: If labels are of another dtype.
            ValueError: If shapes do not fit, or a label is out of range.
        """
        return self.mix(x, labels, self.draw(x), object_mask)


def _check_numbers(
        mode: str,
        prob: float,
        switch_prob: float,
        mixup_alpha: float,
        cutmix_alpha: float,
        num_classes: int,
) -> None:
    """Raise ValueError unless timm's own arguments are in range."""
    if mode not in MODES:
        raise ValueError(f'mode must be one of {list(MODES)}, got {mode!r}')
    for name, share in (('prob', prob), ('switch_prob', switch_prob)):
        if not 0. <= share <= 1.:
            raise ValueError(f'{name} must be in [0, 1], got {share}')
    for name, alpha in (('mixup_alpha', mixup_alpha), ('cutmix_alpha', cutmix_alpha)):
        if not 0. <= alpha < float('inf'):
            raise ValueError(f'{name} must be 0 or greater, got {alpha}')
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f'num_classes must be an integer, 1 or greater, got {num_classes!r}')


def _check_probs(probs: Optional[Sequence[float]], count: int) -> List[float]:
    """Return the probabilities of `count` policies, equal ones by default; ValueError unless they are that."""
    if probs is None:
        return [1. / count] * count
    if len(probs) != count or not all(0. <= prob <= 1. for prob in probs) or abs(sum(probs) - 1.) > 1e-6:
        raise ValueError(f'policy_probs must be {count} probabilities that sum to 1, one for each policy, got {probs}')
    return list(probs)


class FastCollateSUMix(FastCollateMixup):
    """Collate uint8 originals and integer labels for timm's loader; `mixup` mixes them later, on the device.

    Loader workers mix nothing, the batch is copied to the device once, and `mixup_enabled = False` takes effect at
    once, with persistent workers too. SUMixTask, or your own loop, calls `.mixup` on what the loader yields.

    Args:
        *args: Arguments of SUMixMixup.
        **kwargs: Arguments of SUMixMixup.
    """

    def __init__(self, *args, **kwargs):
        self.mixup = SUMixMixup(*args, **kwargs)  # holds every setting, so timm's own set-up is not needed

    @property
    def mixup_enabled(self) -> bool:
        """Whether `mixup` mixes; timm's train loop sets it through the loader."""
        return self.mixup.mixup_enabled

    @mixup_enabled.setter
    def mixup_enabled(self, enabled: bool) -> None:
        self.mixup.mixup_enabled = enabled

    def __call__(self, batch, _=None) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return images [N, C, H, W], uint8, and labels, as `mixup` takes them; ValueError if one is out of range."""
        if self.mixup.multi_label:  # which timm 1.0.28 and older do not collate
            images, _ = fast_collate([(image, 0) for image, _ in batch])
            labels = default_collate([own for _, own in batch])
        else:
            images, labels = fast_collate(batch)
        check_labels(labels, self.mixup.num_classes, self.mixup.multi_label)
        return images, labels
