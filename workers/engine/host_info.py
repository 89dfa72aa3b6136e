"""Facts about the machine for the worker registry: the device's name and memory, and the versions that render."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from app.catalog.gpu_features import cuda_features

# A container may have less memory than its host (cgroup v2, then v1); without a limit the file is absent or huge.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_VERSIONS = ("torch", "diffusers")


def host_bytes() -> int:
    """Return the memory that this process may use, in bytes: the host's, or its container's where that is less."""
    limits = [path.read_text().strip() for path in _LIMITS if path.is_file()]
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([host, *(int(limit) for limit in limits if limit.isdigit())])


def machine_facts(device: str) -> dict[str, str | int | list[str]]:
    """Return `name`, `memory_bytes` and `features` of a torch device (`cpu`, `cuda:0`), and its packages' versions.

    torch is imported only for a GPU: a worker that only joins films needs none. Raises torch's error where there is no
    such device.
    """
    facts: dict[str, str | int | list[str]] = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    if device == "cpu":
        return {"name": _processor(), "memory_bytes": host_bytes(), "features": ["bfloat16"], **facts}
    import torch

    properties = torch.cuda.get_device_properties(device)
    features = cuda_features(properties.major, properties.minor)
    # Its kernels are built for this one architecture.
    if (properties.major, properties.minor) == (9, 0) and find_spec("fa3_fwd_interface") is not None:
        features.append("flash-attention-3")
    return {
        "name": properties.name,
        "memory_bytes": int(properties.total_memory),
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": str(torch.version.cuda),
        "features": features,
        **facts,
    }


def _processor() -> str:
    """Return the processor's name: Linux lists it in a file, other systems report it to Python."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} × {len(names)}" if names else platform.processor() or platform.machine()
