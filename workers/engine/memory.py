"""Admission by memory: what cannot fit is refused before it begins, instead of failing in the middle."""

import os

import torch

from app.catalog.arithmetic import predict_peak
from app.catalog.models import VideoModel
from workers.engine.errors import DoesNotFit


def device_bytes(device: torch.device) -> int:
    """Return the memory of a device in bytes: the whole GPU, or the whole host for a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def refuse_what_cannot_fit(model: VideoModel, device: torch.device, width: int, height: int, frames: int) -> None:
    """Raise DoesNotFit if the predicted peak of a render is above the device's memory."""
    peak, available = predict_peak(model, width, height, frames), device_bytes(device)
    if peak.total > available:
        raise DoesNotFit(
            f"{model.id} at {width}x{height} with {frames} frames needs about {peak.total / 2**30:.1f} GiB, "
            f"the device has {available / 2**30:.1f} GiB"
        )
