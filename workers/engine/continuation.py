"""The lossless continuation from one segment of a shot to the next: float frames, and the look to keep."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from workers.engine.atomic_write import write_durably
from workers.engine.errors import ModelRefused

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Continuation:
    """The end of a segment, from which the next one continues.

    `frames` are the last frames that were delivered, float32 [n, H, W, 3] in 0..1, before any rounding to bytes.
    `anchor` is the mean and the standard deviation of each latent channel of the shot's first segment, float32
    [2, C], against which drift is corrected; None where a model has no latents.
    `sound` are the last samples that were delivered, float32 [n, 2], for a model that continues from them: what it
    makes again of them must not be delivered twice. None where a model makes no sound, or continues it by `facts`.
    `model` is the id of the model that made it and `segment` the index of the segment that ended here.
    """

    model: str
    segment: int
    frames: Floats
    anchor: Floats | None = None
    sound: Floats | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def check(self, *, width: int, height: int) -> None:
        """Raise ModelRefused unless the frames have this size, in pixels."""
        if self.frames.ndim != 4 or self.frames.shape[1:] != (height, width, 3):
            raise ModelRefused(f"the hand-over has frames of shape {self.frames.shape}, not [n, {height}, {width}, 3]")

    def save(self, path: Path) -> None:
        """Write it as a safetensors file, durably: a reader sees the whole file or none."""
        tensors = {"frames": self.frames, "anchor": self.anchor, "sound": self.sound}
        arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items() if tensor is not None}
        metadata = json.dumps({"model": self.model, "segment": self.segment, "facts": dict(self.facts)})
        write_durably(path, lambda temporary: save_file(arrays, temporary, metadata={"handover": metadata}))

    @classmethod
    def load(cls, path: Path) -> "Continuation":
        """Read what `save` wrote. Raises ModelRefused for a file of another format."""
        try:
            with safe_open(path, framework="np") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
                metadata = json.loads((file.metadata() or {})["handover"])
            return cls(metadata["model"], metadata["segment"], **tensors, facts=metadata["facts"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelRefused(f"{path.name} is not a hand-over file: {error}") from error
