"""Faults that a test or a drill orders from the synthetic engine. Without CINEMETER_SYNTHETIC_FAULTS there are none.

The setting names a folder. Each file in it breaks one render, of whichever process removes it first, and is named after
its fault: `hang`, `stall`, `memory`, `kill`, `encode` or `nan`, with anything after a hyphen (`hang-2`).
"""

import ctypes
import os
import signal
from pathlib import Path
from threading import Event

import numpy as np

from workers.engine.errors import BadFrames, OutOfMemory
from workers.engine.request import Frames

FAULTS = ("hang", "stall", "memory", "kill", "encode", "nan")
# More than any machine has, so that the allocation fails at once and harms nobody.
_TOO_MANY_BYTES = 1 << 62
_FOR_EVER_SECONDS = 1 << 30


def next_fault(folder: Path | None) -> str | None:
    """Remove the first file of the folder that names a fault, and return the fault; None where there is none."""
    if folder is None or not folder.is_dir():
        return None
    for path in sorted(folder.iterdir()):
        name = path.name.partition("-")[0]
        if name not in FAULTS:
            continue
        try:
            path.unlink()
        except FileNotFoundError:
            # Another process was quicker, so that fault is its own.
            continue
        return name
    return None


def break_process(fault: str | None) -> None:
    """Break this process in the middle of a render, where that is the fault.

    `hang` never returns, as a GPU call does that waits for a lost kernel. `stall` never returns either and keeps every
    other thread of the process from running. `memory` raises OutOfMemory, and `kill` ends the process as the kernel
    does when the machine has no memory left.
    """
    if fault == "hang":
        Event().wait()
    elif fault == "stall":
        # Unlike other calls of C functions, one of PyDLL keeps Python's lock.
        ctypes.PyDLL(None).sleep(_FOR_EVER_SECONDS)
    elif fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "memory":
        try:
            np.empty(_TOO_MANY_BYTES, np.uint8)
        except MemoryError as error:
            raise OutOfMemory(f"memory ran out while rendering: {error}") from error


def break_frames(fault: str | None, chunk: Frames, *, is_first: bool) -> Frames:
    """Return a rendered chunk, uint8 [f, H, W, 3], or break it where that is the fault.

    `encode` changes the size of the frames after the first chunk, which ends the encoder. `nan` raises BadFrames, as an
    engine does whose model made NaN.
    """
    if fault == "encode" and not is_first:
        return chunk[:, ::2]
    if fault == "nan":
        pictures = chunk.astype(np.float32) / np.float32(255)
        pictures[0, 0, 0, 0] = np.nan
        return _to_bytes(pictures)
    return chunk


def _to_bytes(pictures: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Frames:
    if np.isnan(pictures).any():
        raise BadFrames("the model made pictures that hold NaN")
    return (pictures * 255).round().astype(np.uint8)
