"""The base class of mixing policies: which part of a mixed image comes from the first image, which from its partner."""
from typing import Any, ClassVar, Dict, Optional, Tuple

import torch

from .sampling import check_range


class Policy:
    """Draws parameters, and turns them into masks. A policy of your own implements `draw` and `mask`.

    Parameters are drawn first, so that a test can inject its own; masks are returned, so that policies share one blend.
    The partner of x[i] is x[-1 - i]. Of a dataclass, an `alpha` of 0 or less or a range beyond limits is a ValueError.

    Attributes:
        exact_lam: Whether lam is the true share whatever the images show, as in a weighted sum; no ratio corrects it.
        limits: {option that is a range: its limits}.
    """
    exact_lam: ClassVar[bool] = False
    limits: ClassVar[Dict[str, Tuple[float, float]]] = {}

    def __post_init__(self):
        alpha = getattr(self, 'alpha', 1.)
        if not 0. < alpha < float('inf'):
            raise ValueError(f'alpha must be greater than 0, got {alpha}')
        for name, (low, high) in self.limits.items():
            if getattr(self, name) is not getattr(type(self), name, None):  # the default is right
                check_range(name, getattr(self, name), low, high)

    def draw(self, count: int, x: torch.Tensor, rows: Optional[int] = None) -> Any:
        """Return parameters for a batch x [N, C, H, W], without asking its device for a value.

        A tensor [count, ...] on x's device, or a tuple of such; for a whole batch NumPy arrays of the host will do.

        Args:
            count: Number of drawings: 1 for a whole batch, else one for each pair or image.
            x: The batch.
            rows: A policy that looks at the images makes one row for each of the first `rows` images instead.
        """
        raise NotImplementedError

    def mask(self, params: Any, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the masks and shares of what `draw` returned, on the device of the batch x [N, C, H, W].

        Mask [count, 1, H or 1, W or 1]: True, or 1, where the first image stays; bool, or x's dtype in [0, 1].
        lam [count]: the first image's share, in [0, 1], float32.
        """
        raise NotImplementedError

    def paste(self, params: Any, partner: torch.Tensor) -> torch.Tensor:
        """Return the partners [N, C, H, W] as they are pasted; only a policy that changes them overrides this."""
        return partner

    def partner_mask(self, mask: torch.Tensor, lam: torch.Tensor) -> Optional[torch.Tensor]:
        """Return the visible fraction of each pixel of the partners [N, 1, H or 1, W or 1]; None: 1 - mask."""
        return None

    def mix(self, params: Any, x: torch.Tensor) -> Optional[torch.Tensor]:
        """Return the mixed images [N, C, H, W] where there is a faster way than a mask; None where not."""
        return None
