"""What every engine on torch shares: loading, the clean room around a render, delivery of frames, and checkpoints."""

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from app.catalog.models import VideoModel
from workers.engine.checkpoint import CheckpointFile, fingerprint
from workers.engine.conditioning import frame_statistics
from workers.engine.continuation import Continuation, Floats
from workers.engine.decode import FrameSelection, refuse_nan, smooth_seam, to_host, to_unit
from workers.engine.errors import BadFrames, EngineError, EnginePoisoned, OutOfMemory
from workers.engine.heard_pictures import HeardPictures
from workers.engine.load import Parts, is_out_of_memory, load_parts, set_cpu_threads
from workers.engine.meter import Meter, peak_host_bytes
from workers.engine.optimizations import reset_caches
from workers.engine.request import EngineControl, Frames, SegmentRequest
from workers.engine.self_test import SelfTest
from workers.engine.sound import Sound
from workers.engine.text import CachedEncoder, EmbeddingCache


class TorchEngine(ABC):
    """One loaded model on one device. Renders one segment at a time; none leaves state for the next.

    A family sets its stages up in `adopt` and implements `render` inside `_clean_room`.
    """

    parts: Parts
    text: CachedEncoder[Any]
    self_test: SelfTest

    def __init__(self, model: VideoModel, device: str, text_cache: EmbeddingCache | None = None) -> None:
        self.model = model
        self.device = torch.device(device)
        self.meter = Meter()
        self.handover: Continuation | None = None
        self.sound: Sound | None = None
        self._text_cache = text_cache
        self._loaded = False

    def load(self) -> None:
        """Load the weights, apply the model's switches, and record the self-test; see `Engine.load`."""
        if self._loaded:
            return
        set_cpu_threads(self.device)
        try:
            self.adopt(self._load_parts())
        except (EngineError, OSError, ValueError):
            # The folder or hub id has no such model: a fresh process would find none either.
            raise
        except Exception as error:
            if self.device.type != "cuda":
                raise
            # A half-loaded model holds memory, and a broken device stays broken for as long as the process lives.
            raise EnginePoisoned(f"{self.model.id} could not be loaded onto {self.device}: {error}") from error

    def _load_parts(self) -> Parts:
        """Return the loaded parts; a family may load some of them in its own way."""
        return load_parts(self.model, self.device)

    @abstractmethod
    def adopt(self, parts: Parts) -> None:
        """Use loaded parts: set the model's switches on them, record the self-test, and set `_loaded`."""

    def prefetch(self, request: SegmentRequest) -> None:
        """Encode the next request's text during the running render; see `Engine.prefetch`."""
        if self._loaded:
            guided = request.guidance > 1
            self.text.prefetch([request.prompt, self._negative(request)] if guided else [request.prompt])

    def close(self) -> None:
        """End the threads and release the weights."""
        if self._loaded:
            self.text.close()
            for name in self._stage_names():
                delattr(self, name)
            self._loaded = False
            self._free_memory()

    @abstractmethod
    def _stage_names(self) -> tuple[str, ...]:
        """Return the attributes that `adopt` sets: all that hold weights."""

    def _begin(self) -> None:
        """Begin a render: its meter, its hand-over and its sound are its own."""
        self.meter, self.handover, self.sound = Meter(), None, None
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    @contextmanager
    def _clean_room(self) -> Iterator[None]:
        """Leave nothing of the render inside the block behind, however it ends; see `_check_process`."""
        try:
            yield
        except BadFrames as error:
            # A device that has begun to fail makes such numbers too.
            self._check_process(error)
            raise
        except EngineError:
            raise
        except Exception as error:
            self._check_process(error)
            raise
        finally:
            self._clean()

    def _deliver(
        self,
        pieces: Iterator[torch.Tensor],
        draw: Callable[[Iterator[torch.Tensor]], Iterator[torch.Tensor]],
        context: Floats | None,
        lead: int,
        heard: HeardPictures | None = None,
    ) -> Iterator[Frames]:
        """Yield exactly the requested frames of pieces [1, 3, f, H, W]; the time of the caller is not counted.

        `draw` makes the delivered frames of the decoded pictures; `heard` keeps the pictures of which a sound is made
        afterwards.
        """
        units = refuse_nan(to_unit(piece) for piece in pieces)
        pictures = units if context is None else smooth_seam(units, context, lead)
        if heard is not None:
            pictures = heard.keep(pictures)
        chunks = to_host(draw(pictures), self.device)
        while True:
            with self.meter.stage("decode"):
                chunk = next(chunks, None)
            if chunk is None:
                return
            self.meter.frames += len(chunk)
            yield chunk

    def _save_continuation(
        self,
        request: SegmentRequest,
        selection: FrameSelection,
        latents: torch.Tensor,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """Keep the continuation for the next segment, and read the memory's peak; latents [1, C, T, h, w]."""
        frames = selection.context_frames()
        before = request.handover
        if before is not None and len(frames) < self.model.handover_frames:
            frames = np.concatenate([before.frames, frames])[-self.model.handover_frames :]
        usable = (len(frames) - 1) // self.model.frames_step * self.model.frames_step + 1
        anchor = (
            before.anchor
            if before is not None and before.anchor is not None
            else frame_statistics(latents).cpu().numpy()
        )
        segment = before.segment + 1 if before is not None else 0
        self.handover = Continuation(self.model.id, segment, frames[-usable:], anchor, facts=facts or {})
        cuda = self.device.type == "cuda"
        self.meter.peak_memory_bytes = torch.cuda.max_memory_allocated(self.device) if cuda else peak_host_bytes()

    def _checkpoint(
        self,
        request: SegmentRequest,
        latent: tuple[int, ...],
        context: Floats | None,
        control: EngineControl,
        more: Mapping[str, Any] | None = None,
    ) -> CheckpointFile | None:
        """Return the render's checkpoint file, or None where the request names no folder.

        `more` holds the family's own settings that decide the result. A step cache depends on earlier steps, which a
        checkpoint does not hold: a resumed render would make other frames than an undisturbed one, so such models
        keep none. They are the fast ones anyway.
        """
        path = request.checkpoint_path
        if path is None or self.model.switches.first_block_cache > 0:
            return None
        settings = {
            "prompt": sha256(request.prompt.encode()).hexdigest(),
            "negative_prompt": sha256(self._negative(request).encode()).hexdigest(),
            "model": f"{self.model.id} {self.model.weights}@{self.model.revision}",
            "seed": request.seed,
            "mode": request.mode,
            "latent_shape": latent,
            "steps": request.steps,
            "guidance": request.guidance,
            "guidance_2": self.model.guidance_2,
            "strength": request.strength,
            "flow_shift": self.model.flow_shift.get(request.resolution),
            "dtype": self.model.switches.transformer_dtype,
            **(more or {}),
        }
        pictures = {"shown": context, "last_frame": request.last_frame, "video": request.video}
        header = fingerprint(settings, pictures)
        return CheckpointFile(path, header, self.model.switches.checkpoint_seconds, control.on_checkpoint)

    def _negative(self, request: SegmentRequest) -> str:
        """Return the request's negative prompt, else the model's own."""
        return request.negative_prompt or self.model.negative_prompt

    def _check_process(self, error: Exception) -> None:
        """After an unexpected error: reset everything and run the self-test.

        Raises OutOfMemory where memory ran out and the process is sound, EnginePoisoned where the reset or the
        self-test fails; returns where another error left a sound process.
        """
        try:
            self._clean()
            self._free_memory()
        except Exception as failure:
            # A broken device raises at whatever asks it first, and that may be the reset.
            raise EnginePoisoned(f"nothing could be reset after {type(error).__name__}: {error}") from failure
        if not self.self_test.passes():
            raise EnginePoisoned(f"the self-test failed after {type(error).__name__}: {error}") from error
        if is_out_of_memory(error):
            raise OutOfMemory(f"memory ran out while rendering: {error}") from error

    def _clean(self) -> None:
        """Leave no step caches and no feature maps for the next render; raise EnginePoisoned where that fails."""
        try:
            reset_caches(self.parts)
            if hasattr(self.parts.vae, "clear_cache"):
                self.parts.vae.clear_cache()
        except Exception as error:
            raise EnginePoisoned(f"the state of a render could not be cleared: {error}") from error

    def _free_memory(self) -> None:
        """Return freed memory to the device."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
