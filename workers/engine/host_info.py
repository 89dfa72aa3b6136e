"""The machine under an engine: its device's name and memory, and the versions that render. It is told to the roster."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# A container is given less memory than its host has (cgroup v2, then v1); without a limit the file is absent or huge.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_VERSIONS = ("torch", "diffusers")


def host_bytes() -> int:
    """Return the memory that this process may use, in bytes: the host's, or its container's where that is less."""
    limits = [path.read_text().strip() for path in _LIMITS if path.is_file()]
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([host, *(int(limit) for limit in limits if limit.isdigit())])


def machine_facts(device: str) -> dict[str, str | int]:
    """Return `name` and `memory_bytes` of a torch device (`cpu`, `cuda:0`), and the versions of what renders on it.

    torch is imported for a GPU alone: a worker that only joins films does without. Raises what torch raises where
    there is no such device.
    """
    facts: dict[str, str | int] = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    if device == "cpu":
        return {"name": _processor(), "memory_bytes": host_bytes(), **facts}
    import torch

    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "memory_bytes": int(found.total_memory),
        "capability": f"{found.major}.{found.minor}",
        "cuda": str(torch.version.cuda),
        **facts,
    }


def _processor() -> str:
    """Return the processor's name: Linux tells it in a file, others tell Python."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0]} × {len(named)}" if named else platform.processor() or platform.machine()
