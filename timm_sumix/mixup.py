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
            draw from, replaces it; then a policy's own alpha (its paper's) holds where the one above is 0.
        policy_kwargs: Options of the policy, or {name: options} for several.
        multi_label: An argument of newer timm's Mixup; must be False.
        policy_probs: Probability of each named policy, in the order of their names, summing to 1; None: equal ones.

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
            policy_probs: Optional[Sequence[float]] = None,
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
        if policy is None and (policy_kwargs or policy_probs):
            raise ValueError(
                f'policy_kwargs and policy_probs need a policy to be named, got {policy_kwargs} and {policy_probs}')
        if policy is None:
            self.policies, self.policy_probs = self._timm_choice()
        else:
            self.policies = self._named_policies(policy_kwargs)
            self.policy_probs = _check_probs(policy_probs, len(self.policies))

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

    def _named_policies(self, policy_kwargs: Optional[Dict]):
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
        return policies

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
            return Draws([(policy, policy.draw(1, x, len(x)), None)])
        count = len(x) if self.mode == 'elem' else (len(x) + 1) // 2
        parts = [(policy, policy.draw(count, x, count), None) for policy in self.policies]
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
        rows = len(x) if self.mode == 'pair' else 0
        policy, params, _ = draws.parts[0]
        if len(draws.parts) == 1 and draws.active is None and x.device.type == 'cpu' and hasattr(policy, 'mix'):
            params = _both_ways(params, rows)
            mixed, lam = policy.mix(params, x)
            mask = policy.mask(params, x)[0]
        else:
            mask, lam, partner = _combine(draws, x, rows)
            blend = torch.where if mask.dtype == torch.bool else _lerp
            mixed = blend(mask, x, partner, out=partner)
        lam = lam.expand(len(x))
        return mixed, MixedTarget(
            labels, lam, self.num_classes, self.label_smoothing, original=x, mask=mask,
            partner_mask=_partner_mask(draws, mask, lam, rows))

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


def _lerp(weight: torch.Tensor, x: torch.Tensor, partner: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    return torch.lerp(partner, x, weight, out=out)


def _both_ways(params: Any, rows: int) -> Any:
    """Return params [ceil(rows / 2), ...] of pairs for all `rows` images: those of a partner are its image's."""
    if rows == 0:  # not in pairs
        return params
    if isinstance(params, tuple):
        return type(params)(*(_both_ways(part, rows) for part in params))
    return torch.cat([params, params[:rows // 2].flip(0)])


def _combine(draws: Draws, x: torch.Tensor, rows: int) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return one mask and its lam for all that was drawn, and the partners as they are pasted."""
    mask, lam = None, None
    for policy, params, chosen in draws.parts:
        policy_mask, policy_lam = policy.mask(params, x)
        if mask is None:
            mask, lam = policy_mask, policy_lam
        else:
            if policy_mask.dtype != mask.dtype:
                policy_mask, mask = policy_mask.to(x.dtype), mask.to(x.dtype)
            mask = torch.where(chosen.view(-1, 1, 1, 1), policy_mask, mask)
            lam = torch.where(chosen, policy_lam, lam)
    if draws.active is not None:
        inactive = ~draws.active
        mask = mask.masked_fill(inactive.view(-1, 1, 1, 1), 1)
        lam = lam.masked_fill(inactive, 1.)
    return _both_ways(mask, rows), _both_ways(lam, rows), _pasted(draws, x, rows)


def _pasted(draws: Draws, x: torch.Tensor, rows: int) -> torch.Tensor:
    """Return the partners, changed where the policy that an image ends up with changes them."""
    partner = x.flip(0)
    result = partner
    for policy, params, chosen in draws.parts:
        pasted = policy.paste(_both_ways(params, rows), partner) if hasattr(policy, 'paste') else partner
        if chosen is None:
            result = pasted
        elif pasted is not result:
            result = torch.where(_both_ways(chosen, rows).view(-1, 1, 1, 1), pasted, result)
    return result


def _partner_mask(draws: Draws, mask: torch.Tensor, lam: torch.Tensor, rows: int) -> Optional[torch.Tensor]:
    """Return how much of each of the partner's pixels is shown, None where that is 1 - mask for all images.

    A policy that pastes the whole partner at a smaller size shows the share 1 - lam of each of its pixels.
    """
    if not any(hasattr(policy, 'paste') for policy, *_ in draws.parts):
        return None
    shown = 1. - mask.float()
    for policy, _, chosen in draws.parts:
        part = (1. - lam).view(-1, 1, 1, 1) if hasattr(policy, 'paste') else 1. - mask.float()
        shown = part if chosen is None else torch.where(_both_ways(chosen, rows).view(-1, 1, 1, 1), part, shown)
    return shown


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
        """Return images [N, C, H, W], uint8, and labels [N], int64; ValueError if a label is out of range."""
        images, labels = fast_collate(batch)
        check_labels(labels, self.mixup.num_classes)
        return images, labels
