"""Admission by memory: what came here and cannot fit is refused before it begins, not in the middle."""

import torch

from app.catalog.arithmetic import why_too_large
from app.catalog.models import VideoModel
from workers.engine.errors import DoesNotFit
from workers.engine.machine import host_bytes

# How PyTorch words a lack of memory that it raises as a plain RuntimeError: its host allocator, and cuBLAS.
OUT_OF_MEMORY_WORDS = ("DefaultCPUAllocator: ", "CUBLAS_STATUS_ALLOC_FAILED")


def device_bytes(device: torch.device) -> int:
    """Return the memory of a device in bytes: the whole GPU's, or for a CPU all that this process may use."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return host_bytes()


def refuse_what_cannot_fit(model: VideoModel, device: torch.device, width: int, height: int, frames: int) -> None:
    """Raise DoesNotFit if the predicted peak of a render is above the device's memory."""
    problem = why_too_large(model, width, height, frames, device_bytes(device))
    if problem is not None:
        raise DoesNotFit(problem)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out, on CUDA or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
