"""Admission by memory: what cannot fit is refused before it begins, instead of failing in the middle."""

import torch

from app.catalog.arithmetic import predict_peak
from app.catalog.models import VideoModel
from workers.engine.errors import DoesNotFit
from workers.engine.machine import host_bytes


def device_bytes(device: torch.device) -> int:
    """Return the memory of a device in bytes: the whole GPU's, or for a CPU all that this process may use."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return host_bytes()


def refuse_what_cannot_fit(model: VideoModel, device: torch.device, width: int, height: int, frames: int) -> None:
    """Raise DoesNotFit if the predicted peak of a render is above the device's memory."""
    peak, available = predict_peak(model, width, height, frames), device_bytes(device)
    if peak.total > available:
        raise DoesNotFit(
            f"{model.id} at {width}x{height} with {frames} frames needs about {peak.total / 2**30:.1f} GiB, "
            f"the device has {available / 2**30:.1f} GiB"
        )
