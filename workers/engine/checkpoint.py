"""Checkpoints of a denoising loop: latents, scheduler state and step, whole or absent, and only for the same render."""

import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from workers.engine.atomic_write import write_durably
from workers.engine.errors import CheckpointRejected

FORMAT = 1
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Progress:
    """The loop after `step` steps: the picture's latents, and those of the sound where it is made along with it."""

    step: int
    latents: torch.Tensor
    sound: torch.Tensor | None = None


def fingerprint(settings: Mapping[str, Any], pictures: Mapping[str, Any]) -> dict[str, str]:
    """Return the header that a checkpoint and its render must share: settings as text, pictures as hashes."""
    header = {name: str(value) for name, value in settings.items()}
    for name, picture in pictures.items():
        content = b"" if picture is None else np.ascontiguousarray(picture).tobytes()
        header[name] = sha256(content).hexdigest() if content else ""
    return header


def snapshot(
    header: Mapping[str, str], progress: Progress, scheduler: Any, sound_scheduler: Any = None
) -> tuple[dict[str, torch.Tensor], str]:
    """Return a checkpoint's tensors, copied to the host, and its metadata as JSON. Nothing in it is pickled code."""
    tensors: dict[str, torch.Tensor] = {"latents": _on_host(progress.latents)}
    metadata = {
        "format": FORMAT,
        "step": progress.step,
        "header": dict(header),
        "scheduler": _flatten(_state_of(scheduler), "scheduler", tensors),
    }
    if progress.sound is not None:
        tensors["sound"] = _on_host(progress.sound)
        metadata["sound_scheduler"] = _flatten(_state_of(sound_scheduler), "sound_scheduler", tensors)
    return tensors, json.dumps(metadata)


def write_checkpoint(path: Path, tensors: dict[str, torch.Tensor], metadata: str) -> None:
    """Write a snapshot durably: after a crash the path holds the whole new file or the whole old one."""
    write_durably(path, lambda temporary: save_file(tensors, temporary, metadata={"checkpoint": metadata}))


def read_checkpoint(
    path: Path, header: Mapping[str, str], scheduler: Any, device: torch.device, sound_scheduler: Any = None
) -> Progress:
    """Return the progress in a checkpoint and put its states into the schedulers, which must be fresh clones.

    Raises CheckpointRejected for a broken file and for one whose header differs; the schedulers are then untouched.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["checkpoint"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
        if metadata["format"] != FORMAT:
            raise CheckpointRejected(f"{path.name} has format {metadata['format']}, not {FORMAT}")
        stored: dict[str, str] = metadata["header"]
        differing = sorted(name for name in {*header, *stored} if header.get(name) != stored.get(name))
        if differing:
            raise CheckpointRejected(f"{path.name} belongs to another render: {', '.join(differing)} differ")
        latents = tensors["latents"].to(device)
        state = _unflatten(metadata["scheduler"], tensors, device)
        sound, sound_state = None, {}
        if sound_scheduler is not None:
            sound = tensors["sound"].to(device)
            sound_state = _unflatten(metadata["sound_scheduler"], tensors, device)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointRejected(f"{path.name} is not a complete checkpoint: {error}") from error
    scheduler.__dict__.update(state)
    if sound_scheduler is not None:
        sound_scheduler.__dict__.update(sound_state)
    return Progress(int(metadata["step"]), latents, sound)


def steps_done(path: Path) -> int:
    """Return how many steps a checkpoint file holds, -1 for a file that is missing or broken. Nothing is loaded."""
    try:
        with safe_open(path, framework="np") as file:
            return int(json.loads((file.metadata() or {})["checkpoint"])["step"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return -1


class CheckpointFile:
    """The checkpoint of one render: read once at its start, written in the background when enough time has passed.

    `saved` is called with each completed file, on the writer's thread.
    """

    def __init__(
        self, path: Path, header: Mapping[str, str], interval_seconds: float, saved: Callable[[Path], None]
    ) -> None:
        self.path = path
        self.header = header
        self.interval_seconds = interval_seconds
        self._saved = saved
        self._last = perf_counter()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def resume(self, scheduler: Any, device: torch.device, sound_scheduler: Any = None) -> Progress | None:
        """Return where the loop can continue, or None. A file that does not fit is removed: it never will."""
        if not self.path.exists():
            return None
        try:
            return read_checkpoint(self.path, self.header, scheduler, device, sound_scheduler)
        except CheckpointRejected as rejection:
            logger.warning("checkpoint refused: %s", rejection)
            self.path.unlink(missing_ok=True)
            return None

    def offer(self, progress: Progress, scheduler: Any, *, sound_scheduler: Any = None, is_last: bool = False) -> None:
        """Write the progress if `interval_seconds` have passed since the last time and no write is under way.

        The last one before the render stops is always written, so that a retry repeats no step. The loop's end is
        offered like any step, so that a worker that dies while decoding need not denoise again.
        The copy to the host is made here; file and fsync happen on another thread while the next step runs.
        """
        too_soon = perf_counter() - self._last < self.interval_seconds or (self._writing and not self._writing.done())
        if too_soon and not is_last:
            return
        self._last = perf_counter()
        contents = snapshot(self.header, progress, scheduler, sound_scheduler)
        self._writing = self._writer.submit(self._write, *contents)

    def _write(self, tensors: dict[str, torch.Tensor], metadata: str) -> None:
        """Write on the writer's thread. A full disk costs the checkpoint, never the render."""
        try:
            write_checkpoint(self.path, tensors, metadata)
        except (OSError, SafetensorError):
            logger.warning("the checkpoint %s could not be written", self.path, exc_info=True)
            return
        self._saved(self.path)

    def close(self) -> None:
        """Wait for the write in progress."""
        self._writer.shutdown(wait=True)

    def discard(self) -> None:
        """Remove the checkpoint: its segment is finished, or was cancelled."""
        self.path.unlink(missing_ok=True)


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy of a tensor in the host's memory that later steps cannot change."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _state_of(scheduler: Any) -> dict[str, Any]:
    """Return what a scheduler remembers; its configuration is the fresh clone's own."""
    return {name: value for name, value in vars(scheduler).items() if name != "_internal_dict"}


def _flatten(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Return a JSON form of a scheduler's attribute, moving its tensors into `tensors` under their path.

    An attribute that is neither data nor a tensor (a nested scheduler) is left out: the fresh clone has its own.
    """
    if isinstance(value, torch.Tensor):
        tensors[path] = _on_host(value)
        return {"tensor": path, "host": value.device.type == "cpu"}
    if isinstance(value, dict):
        data = {key: each for key, each in value.items() if _is_data(each)}
        return {"table": {key: _flatten(each, f"{path}.{key}", tensors) for key, each in data.items()}}
    if isinstance(value, list | tuple):
        return {"list": [_flatten(each, f"{path}.{index}", tensors) for index, each in enumerate(value)]}
    return {"value": value}


def _is_data(value: Any) -> bool:
    """Whether a value can be stored as tensors and JSON."""
    if isinstance(value, list | tuple):
        return all(_is_data(each) for each in value)
    return value is None or isinstance(value, torch.Tensor | bool | int | float | str)


def _unflatten(form: Any, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Any:
    """Return the value that `_flatten` stored; tensors from the device return there, the others stay on the host."""
    if "tensor" in form:
        tensor = tensors[form["tensor"]]
        return tensor if form["host"] else tensor.to(device)
    if "table" in form:
        return {key: _unflatten(each, tensors, device) for key, each in form["table"].items()}
    if "list" in form:
        return [_unflatten(each, tensors, device) for each in form["list"]]
    return form["value"]
