"""Give up what a process that reads hostile files does not need."""

import ctypes
import resource

from app.assets.limits import CPU_SECONDS, MEMORY_BYTES, OUTPUT_BYTES

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_NO_NEW_PRIVS = 38


def confine(*, cpu_seconds: int = CPU_SECONDS, output_bytes: int = OUTPUT_BYTES) -> None:
    """Limit this process: memory, time, size of files, core dumps, new privileges, and the network."""
    for limit, amount in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, output_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (amount, amount))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # An empty network namespace. Some kernels and containers refuse; then only the rules above apply.
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWNET)
