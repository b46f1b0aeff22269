"""Drop-ins for timm.data.Mixup and timm.data.FastCollateMixup that mix on the device and keep labels correctable.

Deviations from timm's classes: parameters are drawn from torch's generators, on x's device, or on the host what CutMix
and mixup draw for a whole batch; x is left untouched; batches of any size are mixed (the middle image of an odd batch
is its own partner); the target is a MixedTarget; and neither mode 'half' nor correct_lam=False exists.
"""
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from timm.data import FastCollateMixup, Mixup
from timm.data.loader import fast_collate
from torch.utils.data import default_collate

from ..target import MixedTarget, check_labels, check_smoothing
from .draws import Draws, blend, draw_for_batch, draw_for_each
from .policies import POLICIES, Policy, create_policy
from .policies.sampling import check_range

MODES = ('batch', 'pair', 'elem')
_Policies = Union[str, Policy, Sequence[Union[str, Policy]]]


class SUMixMixup(Mixup):
    """Mix a batch with its reverse, as timm.data.Mixup does, and return a target whose shares can be corrected.

    Args:
        mixup_alpha: Alpha of mixup; timm's choice includes mixup if greater than 0.
        cutmix_alpha: Alpha of CutMix; timm's choice includes CutMix if greater than 0.
        cutmix_minmax: Range of CutMix's box sides, as shares of the image's; turns CutMix on, overrides its alpha.
        prob: Probability that a batch (or pair, or element) is mixed.
        switch_prob: Probability of CutMix rather than mixup where timm's choice includes both.
        mode: What one drawing is for: the 'batch', a 'pair' of images, or each 'elem'.
        correct_lam: True, as timm's default: lam is the exact share of pixels kept.
        label_smoothing: Label smoothing, in [0, 1).
        num_classes: Number of classes.
        policy: None: timm's choice of mixup and CutMix by the alphas above. A policy's name, a Policy of your own, or a
            list of them to draw from, replaces it, with the policy's own alpha (its paper's) where that above is 0.
        policy_kwargs: Options of the named policy, or {name: options} for several.
        multi_label: Images may have several classes: labels [N, C], float, smoothed towards 0.5, as in newer timm.
        policy_probs: Probability of each policy, in their order, summing to 1; None: equal ones.

    ValueError if an argument is out of range or unknown, or would have no effect.
    """

    def __init__(
            self, mixup_alpha: float = 1., cutmix_alpha: float = 0., cutmix_minmax: Optional[Sequence[float]] = None,
            prob: float = 1., switch_prob: float = 0.5, mode: str = 'batch', correct_lam: bool = True,
            label_smoothing: float = 0.1, num_classes: int = 1000, policy: Optional[_Policies] = None,
            policy_kwargs: Optional[Dict[str, Any]] = None, multi_label: bool = False,
            policy_probs: Optional[Sequence[float]] = None):
        if mode not in MODES:
            raise ValueError(f'mode must be one of {list(MODES)}, got {mode!r}')
        if not correct_lam:
            raise ValueError(f'correct_lam must be True: labels follow the pixels, got {correct_lam}')
        for name, share in (('prob', prob), ('switch_prob', switch_prob)):
            if not 0. <= share <= 1.:
                raise ValueError(f'{name} must be in [0, 1], got {share}')
        for name, alpha in (('mixup_alpha', mixup_alpha), ('cutmix_alpha', cutmix_alpha)):
            if not 0. <= alpha < float('inf'):
                raise ValueError(f'{name} must be 0 or greater, got {alpha}')
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f'num_classes must be an integer, 1 or greater, got {num_classes!r}')
        check_smoothing(label_smoothing)
        if cutmix_minmax is not None:
            check_range('cutmix_minmax', cutmix_minmax, 0., 1.)
        super().__init__(
            mixup_alpha, cutmix_alpha, cutmix_minmax, prob, switch_prob, mode, True, label_smoothing, num_classes)
        self.multi_label = multi_label  # which timm 1.0.28 and older do not have
        alphas = {'mixup': mixup_alpha, 'cutmix': self.cutmix_alpha}  # timm makes it 1 where minmax is given
        if policy is None:
            if policy_kwargs or policy_probs:
                raise ValueError(
                    f'policy_kwargs and policy_probs need a policy to be named, got {policy_kwargs} and {policy_probs}')
            policy = [name for name, alpha in alphas.items() if alpha > 0]
            if not policy:
                raise ValueError('one of mixup_alpha > 0, cutmix_alpha > 0, cutmix_minmax or policy must be given')
            policy_probs = [1. - switch_prob, switch_prob] if len(policy) == 2 else None
        self.policies = self._create_policies(policy, policy_kwargs or {}, alphas)
        count = len(self.policies)
        self.policy_probs = probs = [1. / count] * count if policy_probs is None else list(policy_probs)
        if len(probs) != count or not (min(probs) >= 0. and abs(sum(probs) - 1.) <= 1e-6):
            raise ValueError(
                f'policy_probs must be {count} probabilities that sum to 1, one for each policy, got {policy_probs}')

    def _create_policies(self, policy: _Policies, kwargs: Dict[str, Any], alphas: Dict[str, float]) -> List[Policy]:
        """Return the policies, those that are named created with their options."""
        entries = [policy] if isinstance(policy, (str, Policy)) else list(policy)
        names = [entry for entry in entries if not isinstance(entry, Policy)]
        if not entries or len(set(names)) < len(names) or not set(names) <= set(POLICIES):
            raise ValueError(f'policy must name one or more of {list(POLICIES)}, each once, got {policy!r}')
        # 0 and 1 are the defaults of timm's arguments; anything else was meant to have an effect
        if 'cutmix' not in names and (self.cutmix_alpha not in (0., 1.) or self.cutmix_minmax):
            raise ValueError(f"cutmix_alpha and cutmix_minmax need 'cutmix' among the policies {names}")
        if 'mixup' not in names and self.mixup_alpha not in (0., 1.):
            raise ValueError(f"mixup_alpha {self.mixup_alpha} needs 'mixup' among the policies {names}")
        if kwargs and len(names) == 1 and names[0] not in kwargs:
            kwargs = {names[0]: kwargs}
        if unknown := [key for key in kwargs if key not in names]:
            raise ValueError(f'policy_kwargs must have the policies {names} as keys, got {unknown}')
        given: Dict[str, Dict[str, Any]] = {name: {'alpha': alpha} for name, alpha in alphas.items() if alpha > 0}
        if self.cutmix_minmax:
            given['cutmix']['minmax'] = tuple(self.cutmix_minmax)
        return [
            entry if isinstance(entry, Policy)
            else create_policy(entry, **{**given.get(entry, {}), **kwargs.get(entry, {})}) for entry in entries]

    @property
    def corrected_part(self) -> float:
        """Part of the images, in [0, 1], mixed by a policy whose share a ratio can correct (not mixup's)."""
        return self.mix_prob * sum(p for policy, p in zip(self.policies, self.policy_probs) if not policy.exact_lam)

    def draw(self, x: torch.Tensor) -> Optional[Draws]:
        """Draw the parameters for a batch [N, C, H, W], on its device; None if nothing is to be mixed."""
        if not self.mixup_enabled or self.mix_prob == 0. or len(x) == 0:
            return None
        if self.mode == 'batch':
            return draw_for_batch(self.policies, self.policy_probs, self.mix_prob, x)
        return draw_for_each(self.policies, self.policy_probs, self.mix_prob, x, in_pairs=self.mode == 'pair')

    @torch.no_grad()
    def mix(
            self, x: torch.Tensor, labels: torch.Tensor, draws: Optional[Draws],
            object_mask: Optional[torch.Tensor] = None) -> Tuple[torch.Tensor, MixedTarget]:
        """Apply what was drawn to a batch; see `__call__`."""
        if x.ndim != 4 or not x.is_floating_point():
            raise ValueError(
                'x must be images [N, C, H, W] of a floating dtype, normalised, as the model takes them '
                f"(timm's PrefetchLoader makes them so), got {x.dtype} {list(x.shape)}")
        if len(x) != len(labels):
            raise ValueError(f'x and labels must be of one length, got {len(x)} images and {len(labels)} labels')
        if self.multi_label != (getattr(labels, 'ndim', 1) == 2):  # else the target checks them
            check_labels(labels, self.num_classes, self.multi_label)
        mixed, lam, mixing = (x, None, None) if draws is None else blend(draws, x, in_pairs=self.mode == 'pair')
        return mixed, MixedTarget(
            labels, lam, self.num_classes, self.label_smoothing, original=x, mask=mixing, object_mask=object_mask)

    def __call__(
            self, x: torch.Tensor, labels: torch.Tensor, object_mask: Optional[torch.Tensor] = None,
    ) -> Tuple[torch.Tensor, MixedTarget]:
        """Return each image mixed with that at the same place of the reversed batch, and the MixedTarget, with x in it.

        No gradient flows through. TypeError if labels are of another dtype; ValueError if shapes or labels do not fit.

        Args:
            x: Images [N, C, H, W], of a floating dtype, on any device. Left untouched.
            labels: Classes [N], int64; with multi_label [N, C], floating point, in [0, 1].
            object_mask: Where the object is in each image [N, 1, H, W], bool or in [0, 1], on x's device: then labels
                are by what is visible of each, see MixedTarget. MaskedDataset carries masks through timm's transforms.
        """
        return self.mix(x, labels, self.draw(x), object_mask)


class FastCollateSUMix(FastCollateMixup):
    """Collate uint8 originals and integer labels for timm's loader; `mixup` mixes them later, on the device.

    Workers mix nothing, batches are copied to the device once, and `mixup_enabled = False` takes effect at once, with
    persistent workers too. SUMixTask, or your loop, calls `.mixup` on what is loaded. Arguments: those of SUMixMixup.
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
