"""Processes of ours that read what is hostile: started without our settings, and confined by themselves."""

import ctypes
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import app

# Address space of a confined process, by default.
MEMORY_BYTES = 2 * 2**30

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_NO_NEW_PRIVS = 38


class ConfinedError(Exception):
    """The process gave no answer; the message completes `The file was refused: …`."""


def run_confined(words: Sequence[str], folder: Path, *, seconds: float, answer_bytes: int, input_text: str = "") -> Any:
    """Run a module of ours, `words[0]`, in a process without our settings, in `folder`; return its answer, from JSON.

    The module confines itself. Raises ConfinedError when it takes longer than `seconds`, crashes, or answers no JSON of
    at most `answer_bytes`.
    """
    # None of our settings and secrets: only the path of the code, and a limit on memory that threads reserve.
    environment = {"PYTHONPATH": str(Path(app.__file__).parent.parent), "MALLOC_ARENA_MAX": "2", "LANG": "C.UTF-8"}
    try:
        process = subprocess.run(
            [sys.executable, "-m", *words],
            input=input_text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            env=environment,
            cwd=folder,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfinedError("reading it takes too long") from None
    if process.returncode != 0:
        raise ConfinedError("reading it takes too much memory or time, or crashes the reader")
    try:
        return json.loads(process.stdout[:answer_bytes])
    except (ValueError, RecursionError):
        raise ConfinedError("it cannot be read") from None


def confine(*, cpu_seconds: int, output_bytes: int, memory_bytes: int = MEMORY_BYTES) -> None:
    """Limit this process: memory, time, size of files, core dumps, new privileges, and the network."""
    for limit, amount in (
        (resource.RLIMIT_AS, memory_bytes),
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
