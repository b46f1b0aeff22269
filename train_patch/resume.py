"""Resuming without the optimizer's state: what is trained beside the model may then come and go."""
import logging
from typing import Any, Dict, Optional

import torch.nn as nn

from timm_sumix import SUMixTask

_logger = logging.getLogger('train_patch')

PARTS = {'uncertainty': 'uncertainty head', 'projection': "projection to a teacher's features"}


def begin_head_anew(task: SUMixTask) -> None:
    """Let the task load a checkpoint that lacks a part of its own, or has one that it has no use for, and log which.

    With the optimizer's state this is an error, since that state would not fit.
    """
    load = task.load_task_state

    def load_what_fits(
            state: Optional[Dict[str, Any]],
            strict: bool = True,
            module: Optional[nn.Module] = None,
            ema: bool = False,
    ) -> None:
        saved, own = set(state or {}), set(task.get_task_state())
        for name in PARTS.keys() & (saved ^ own) if task.verbose and not ema else ():
            _logger.info(
                f'SUMix: the checkpoint has no {PARTS[name]}: it starts anew.' if name in own else
                f'SUMix: the {PARTS[name]} of the checkpoint is left out: this run has none.')
        load(state, strict=strict and saved == own, module=module, ema=ema)

    task.load_task_state = load_what_fits  # type: ignore[method-assign]
