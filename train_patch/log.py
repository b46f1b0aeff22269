"""What the launcher logs before torch.distributed is initialised."""
import logging

from timm.utils.distributed import world_info_from_env

_logger = logging.getLogger('train_patch')


def log_once(text: str, level: int = logging.INFO) -> None:
    """Log from the first process alone, as the environment tells."""
    if world_info_from_env()[1] == 0:
        _logger.log(level, f'SUMix: {text}')
