"""Resuming without the optimizer's state: the uncertainty head may then come and go."""
import logging
from typing import Any, Dict, Optional

import torch.nn as nn

from timm_sumix import SUMixTask

_logger = logging.getLogger('train_patch')


def begin_head_anew(task: SUMixTask) -> None:
    """Let the task load a checkpoint that has no head for its own, or one that it has no use for, and log which.

    With the optimizer's state this is an error, since that state would not fit.
    """
    load = task.load_task_state

    def load_what_fits(
            state: Optional[Dict[str, Any]],
            strict: bool = True,
            module: Optional[nn.Module] = None,
            ema: bool = False,
    ) -> None:
        saved, has_head = bool((state or {}).get('uncertainty')), 'uncertainty' in task.get_task_state()
        if saved != has_head and task.verbose and not ema:
            _logger.info(
                'SUMix: the checkpoint has no uncertainty head: the head starts anew.' if has_head else
                'SUMix: the uncertainty head of the checkpoint is left out: this run has none.')
        load(state, strict=strict and saved == has_head, module=module, ema=ema)

    task.load_task_state = load_what_fits  # type: ignore[method-assign]
