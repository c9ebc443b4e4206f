"""How much memory is free where the model computes."""

import psutil
import torch

SHARE = 0.5  # of what is free, to be used


def spendable(device: torch.device) -> int:
    """Bytes that a computation on this device may take now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(SHARE * (free + idle))
    return int(SHARE * psutil.virtual_memory().available)


def exhausted(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
