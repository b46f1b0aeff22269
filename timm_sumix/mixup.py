"""Drop-ins for timm.data.Mixup and timm.data.FastCollateMixup that mix on the device and keep labels correctable.

Paper: SUMix: Mixup with Semantic and Uncertain Information, ECCV 2024, https://arxiv.org/abs/2407.07805

Deviations from timm's classes: parameters are drawn by torch on x's device instead of by NumPy on the host; x is left
untouched; batches of any size are mixed (the middle image of an odd batch is its own partner); the target is a
MixedTarget; and mode 'half' does not exist.
"""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from timm.data import FastCollateMixup, Mixup
from timm.data.loader import fast_collate

from .policies import create_policy, policy_names, split_kwargs
from .target import MixedTarget, check_labels, check_smoothing

MODES = ('batch', 'pair', 'elem')


class Draws(NamedTuple):
    """What was drawn for one batch; a test can make its own.

    Args:
        parts: (policy, its params, chosen) for each policy that takes part. chosen is a bool tensor [count] of the
            drawings that this policy overrides its predecessors in, None for all.
        active: Bool tensor [count] of the drawings that are mixed at all, None for all.
    """
    parts: List[Tuple[Any, Any, Optional[torch.Tensor]]]
    active: Optional[torch.Tensor] = None


class SUMixMixup(Mixup):
    """Mix a batch with its reverse, as timm.data.Mixup does, and return a target whose shares can be corrected.

    Args:
        mixup_alpha: Alpha of mixup; timm's choice includes mixup if greater than 0.
        cutmix_alpha: Alpha of CutMix; timm's choice includes CutMix if greater than 0.
        cutmix_minmax: Range of CutMix's box sides, as shares of the image's; turns CutMix on, overrides its alpha.
        prob: Probability that a batch (or pair, or element) is mixed.
        switch_prob: Probability of CutMix rather than mixup where timm's choice includes both.
        mode: What one drawing is for: the 'batch', a 'pair' of images, or each 'elem'.
        correct_lam: Use the exact share of pixels kept for CutMix, rather than the share drawn.
        label_smoothing: Label smoothing, in [0, 1).
        num_classes: Number of classes.
        policy: None: timm's choice of mixup and CutMix by the alphas above. A policy's name, or a list of names to
            draw from with equal chances, replaces it; then a policy's own alpha (its paper's) holds where the one
            above is 0.
        policy_kwargs: Options of the policy, or {name: options} for several.
        multi_label: An argument of newer timm's Mixup; must be False.

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
            policy: Optional[Union[str, Sequence[str]]] = None,
            policy_kwargs: Optional[Dict] = None,
            multi_label: bool = False,
    ):
        if multi_label:
            raise ValueError('multi_label must be False: a share is corrected for one class an image')
        if mode not in MODES:
            raise ValueError(f'mode must be one of {list(MODES)}, got {mode!r}')
        for name, share in (('prob', prob), ('switch_prob', switch_prob)):
            if not 0. <= share <= 1.:
                raise ValueError(f'{name} must be in [0, 1], got {share}')
        for name, alpha in (('mixup_alpha', mixup_alpha), ('cutmix_alpha', cutmix_alpha)):
            if not 0. <= alpha < float('inf'):
                raise ValueError(f'{name} must be 0 or greater, got {alpha}')
        if num_classes < 1:
            raise ValueError(f'num_classes must be 1 or greater, got {num_classes}')
        check_smoothing(label_smoothing)
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
        self.policy = policy
        self.policies, self.policy_probs = self._timm_choice() if policy is None else self._named_choice(policy_kwargs)
        if policy is None and policy_kwargs:
            raise ValueError(f'policy_kwargs need a policy to be named, got {policy_kwargs}')

    def _timm_choice(self):
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

    def _named_choice(self, policy_kwargs: Optional[Dict]):
        names = policy_names(self.policy)
        # 0 and 1 are the defaults of timm's arguments; anything else was meant to have an effect
        if 'cutmix' not in names and (self.cutmix_alpha not in (0., 1.) or self.cutmix_minmax or not self.correct_lam):
            raise ValueError(f"cutmix_alpha, cutmix_minmax and correct_lam need 'cutmix' among the policies {names}")
        if 'mixup' not in names and self.mixup_alpha not in (0., 1.):
            raise ValueError(f"mixup_alpha {self.mixup_alpha} needs 'mixup' among the policies {names}")
        options = split_kwargs(names, policy_kwargs)
        policies = []
        for name in names:
            alpha = {'mixup': self.mixup_alpha, 'cutmix': self.cutmix_alpha}.get(name, 0.)
            kwargs = {**({'alpha': alpha} if alpha > 0 else {}), **options.get(name, {})}
            policies.append(self._cutmix(**kwargs) if name == 'cutmix' else create_policy(name, **kwargs))
        return policies, [1. / len(names)] * len(names)

    def _cutmix(self, **kwargs):
        minmax = tuple(self.cutmix_minmax) if self.cutmix_minmax else None
        return create_policy('cutmix', **{'minmax': minmax, 'correct_lam': self.correct_lam, **kwargs})

    def draw(self, x: torch.Tensor) -> Optional[Draws]:
        """Draw the parameters for a batch [N, C, H, W], on its device; None where the host knows nothing is mixed."""
        if not self.mixup_enabled or self.mix_prob == 0. or len(x) == 0:
            return None
        if self.mode == 'batch':
            if torch.rand(()).item() >= self.mix_prob:
                return None
            policy = self.policies[int(torch.multinomial(torch.tensor(self.policy_probs), 1))]
            return Draws([(policy, policy.draw(1, x), None)])
        count = len(x) if self.mode == 'elem' else (len(x) + 1) // 2
        parts = [(policy, policy.draw(count, x), None) for policy in self.policies]
        if len(parts) > 1:
            uniform, start = torch.rand(count, device=x.device), 0.
            for i, prob in enumerate(self.policy_probs):
                parts[i] = (*parts[i][:2], uniform >= start)
                start += prob
        active = None if self.mix_prob == 1. else torch.rand(count, device=x.device) < self.mix_prob
        return Draws(parts, active)

    @torch.no_grad()
    def mix(self, x: torch.Tensor, labels: torch.Tensor, draws: Optional[Draws]) -> Tuple[torch.Tensor, MixedTarget]:
        """Apply what was drawn to a batch; see `__call__`."""
        if x.ndim != 4 or not x.is_floating_point():
            raise ValueError(f'x must be images [N, C, H, W] of a floating dtype, got {x.dtype} {list(x.shape)}')
        if len(x) != len(labels):
            raise ValueError(f'x and labels must be of one length, got {len(x)} images and {len(labels)} labels')
        if draws is None:
            lam = torch.ones(len(x), device=x.device)
            return x, MixedTarget(labels, lam, self.num_classes, self.label_smoothing, original=x, mixed=False)
        mask, lam = _combine(draws, x)
        if self.mode == 'pair':  # one drawing for an image and for its partner
            mask, lam = (torch.cat([part, part[:len(x) // 2].flip(0)]) for part in (mask, lam))
        partner = x.flip(0)
        mixed = torch.where(mask, x, partner) if mask.dtype == torch.bool else torch.lerp(partner, x, mask)
        lam = lam.expand(len(x))
        return mixed, MixedTarget(labels, lam, self.num_classes, self.label_smoothing, original=x)

    def __call__(self, x: torch.Tensor, labels: torch.Tensor) -> Tuple[torch.Tensor, MixedTarget]:
        """Mix each image with that at the same place of the reversed batch.

        Args:
            x: Images [N, C, H, W], of a floating dtype, on any device. Left untouched.
            labels: Classes [N], int64.

        Returns:
            The mixed images, like x, and their MixedTarget, with x as `target.original`. No gradient flows through the
            mixing.

        Raises:
            TypeError: If labels are not int64.
            ValueError: If shapes do not fit, or a label is out of range.
        """
        check_labels(labels, self.num_classes)
        return self.mix(x, labels, self.draw(x))


def _combine(draws: Draws, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return one mask and its lam for all that was drawn."""
    mask, lam = None, None
    for policy, params, chosen in draws.parts:
        policy_mask, policy_lam = policy.mask(params, x)
        if mask is None:
            mask, lam = policy_mask, policy_lam
        else:
            mask = torch.where(chosen.view(-1, 1, 1, 1), policy_mask.to(x.dtype), mask.to(x.dtype))
            lam = torch.where(chosen, policy_lam, lam)
    if draws.active is not None:
        inactive = ~draws.active
        mask = mask.masked_fill(inactive.view(-1, 1, 1, 1), 1)
        lam = lam.masked_fill(inactive, 1.)
    return mask, lam


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
        """Return images [N, C, H, W], uint8, and labels [N], int64; ValueError if a label is out of range."""
        images, labels = fast_collate(batch)
        check_labels(labels, self.mixup.num_classes)
        return images, labels
