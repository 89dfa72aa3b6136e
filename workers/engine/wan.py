"""The Wan family (2.1 and 2.2): one render from request to frames, in order."""

import gc
from collections.abc import Generator, Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from app.catalog.models import STRENGTH_MODES, VideoModel
from workers.engine.checkpoint import CheckpointFile, fingerprint
from workers.engine.conditioning import (
    Conditioning,
    ConditionStage,
    Shape,
    context_frames,
    correct_drift,
    frame_statistics,
    native_request,
    repeated_frames,
    shape_of,
)
from workers.engine.continuation import Continuation, Floats
from workers.engine.decode import FrameSelection, decode_floats, smooth_seam, to_host, to_unit
from workers.engine.denoise import DenoiseStage, Plan
from workers.engine.errors import EngineError, EnginePoisoned, ModelRefused, OutOfMemory
from workers.engine.heard_pictures import HeardPictures
from workers.engine.load import Parts, check_memory, clone_scheduler, is_out_of_memory, load_parts, set_cpu_threads
from workers.engine.meter import Meter, peak_host_bytes
from workers.engine.optimizations import apply_optimizations, reset_caches
from workers.engine.preview import LatentPreview
from workers.engine.request import EngineControl, Frames, SegmentRequest
from workers.engine.self_test import SelfTest
from workers.engine.sound import Sound
from workers.engine.text import EmbeddingCache, TextStage
from workers.engine.upscaler import deliver


class WanEngine:
    """One loaded Wan model on one device. Renders one segment at a time; none leaves state for the next."""

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
            self.adopt(load_parts(self.model, self.device))
        except (EngineError, OSError, ValueError):
            # The folder or hub id has no such model: a fresh process would find none either.
            raise
        except Exception as error:
            if self.device.type != "cuda":
                raise
            # A half-loaded model holds memory, and a broken device stays broken for as long as the process lives.
            raise EnginePoisoned(f"{self.model.id} could not be loaded onto {self.device}: {error}") from error

    def adopt(self, parts: Parts) -> None:
        """Use loaded parts: set the model's switches on them and record the self-test."""
        self.parts = parts
        self.kernels = apply_optimizations(self.model, parts)
        key = f"{self.model.weights}@{self.model.revision}"
        self.text = TextStage(self.parts, key, self.model.text_length, self._text_cache)
        self.conditions = ConditionStage(self.model, self.parts)
        self.denoise = DenoiseStage(self.parts)
        with self.parts.on_device("vae") as vae:
            self.preview = LatentPreview.fit(vae)
        self.self_test = SelfTest(self.parts, self.model, self.kernels)
        self.self_test.record()
        self._loaded = True

    def prefetch(self, request: SegmentRequest) -> None:
        """Encode the next request's text during the running render; see `Engine.prefetch`."""
        if self._loaded:
            guided = request.guidance > 1
            self.text.prefetch([request.prompt, self._negative(request)] if guided else [request.prompt])

    def close(self) -> None:
        """End the threads and release the weights."""
        if self._loaded:
            self.text.close()
            del self.parts, self.text, self.conditions, self.denoise, self.preview, self.self_test
            self._loaded = False
            self._free_memory()

    def render(self, request: SegmentRequest, control: EngineControl) -> Generator[Frames]:
        """Yield the segment's frames as uint8 chunks [f, H, W, 3]; see `Engine.render`."""
        self.load()
        self.meter, self.handover, self.sound = Meter(), None, None
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        checkpoint = None
        try:
            control.check()
            native = native_request(self.model, request)
            context = context_frames(self.model, native)
            self.conditions.check(native, context)
            shape = shape_of(self.model, self.parts, native, repeated_frames(native, context))
            check_memory(self.model, self.device, native.width, native.height, shape.rendered)
            checkpoint = self._checkpoint(native, shape, context, control)
            latents = self._latents(native, shape, context, control, checkpoint)
            yield from self._frames(request, native, shape, context, latents, control)
        except EngineError:
            raise
        except Exception as error:
            self._check_process(error)
            raise
        finally:
            if checkpoint is not None:
                checkpoint.close()
            self._clean()

    def _latents(
        self,
        request: SegmentRequest,
        shape: Shape,
        context: Floats | None,
        control: EngineControl,
        checkpoint: CheckpointFile | None,
    ) -> torch.Tensor:
        """Encode text and pictures, and denoise; return the normalised latents, float32 [1, C, T, h, w]."""
        with self.meter.stage("text"):
            guided = request.guidance > 1
            prompt, is_hit = self.text.encode(request.prompt)
            negative, is_negative_hit = self.text.encode(self._negative(request)) if guided else (None, False)
        self.meter.text_cache_hits = is_hit + is_negative_hit
        with self.meter.stage("denoise"):
            conditioning = self.conditions.build(request, shape, context)
            scheduler = clone_scheduler(self.parts, self.model.flow_shift.get(request.resolution))
            scheduler.set_timesteps(request.steps, device=self.device)
            timesteps = scheduler.timesteps
            if request.mode in STRENGTH_MODES:
                conditioning, timesteps = self._noised_video(request, shape, context, conditioning, scheduler)
            elif hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(0)
            plan = Plan(
                conditioning=conditioning,
                scheduler=scheduler,
                timesteps=timesteps,
                prompt=prompt,
                negative=negative,
                guidance=request.guidance,
                guidance_2=self.model.guidance_2 if self.model.guidance_2 is not None else request.guidance,
                cfg_batch=self.model.switches.cfg_batch,
                uniform_timestep=self.model.switches.uniform_timestep,
                preview_steps=self.model.switches.preview_steps,
            )
            with self.kernels.for_shape(request.width, request.height, shape.rendered):
                latents = self.denoise.run(plan, control, self.meter, self.preview, checkpoint)
            return correct_drift(latents, conditioning.mask, request.handover, self.model.drift_correction)

    def _noised_video(
        self, request: SegmentRequest, shape: Shape, context: Floats | None, conditioning: Conditioning, scheduler: Any
    ) -> tuple[Conditioning, torch.Tensor]:
        """Return v2v's start and its remaining timesteps: the source video, noised as far as `strength` says.

        The scheduler is left without a begin index and finds its place by the timestep, as in diffusers' v2v pipeline.
        """
        if not 0 < request.strength <= 1:
            raise ModelRefused(f"strength must lie in 0 to 1, not {request.strength}")
        steps = max(1, min(int(request.steps * request.strength), request.steps))
        timesteps = scheduler.timesteps[(request.steps - steps) * scheduler.order :]
        video = self.conditions.video_latents(request, shape, context)
        if hasattr(scheduler, "add_noise"):
            start = scheduler.add_noise(video, conditioning.latents, timesteps[:1])
        else:
            start = scheduler.scale_noise(video, timesteps[:1], conditioning.latents)
        return replace(conditioning, latents=start), timesteps

    def _frames(
        self,
        request: SegmentRequest,
        native: SegmentRequest,
        shape: Shape,
        context: Floats | None,
        latents: torch.Tensor,
        control: EngineControl,
    ) -> Iterator[Frames]:
        """Decode and yield exactly the requested frames; the time of the caller is not counted."""
        selection = FrameSelection(
            rendered=shape.rendered,
            lead=shape.lead,
            frames=native.frames,
            context=self.model.handover_frames,
            keep_last=request.last_frame is not None and not self.parts.expand_timesteps,
        )
        with self.parts.on_device("vae") as vae:
            pieces = (to_unit(piece) for piece in decode_floats(vae, latents))
            pictures = pieces if context is None else smooth_seam(pieces, context, shape.lead)
            heard = HeardPictures()
            pictures = heard.keep(pictures) if request.sound else pictures
            delivery = {"first": shape.lead, "frames": request.frames, "pace": request.fps // native.fps}
            aspect = self.model.pixel_aspect(native.width, native.height)
            frames = deliver(self.parts.upscaler, selection, pictures, control.check, aspect=aspect, **delivery)
            chunks = to_host(frames, self.device)
            while True:
                with self.meter.stage("decode"):
                    chunk = next(chunks, None)
                if chunk is None:
                    break
                self.meter.frames += len(chunk)
                yield chunk
        if request.sound:
            with self.meter.stage("decode"):
                self.sound = heard.sound(request, lead=shape.lead, fps=native.fps)
        self._save_continuation(native, selection, latents, heard.facts)

    def _save_continuation(
        self, request: SegmentRequest, selection: FrameSelection, latents: torch.Tensor, facts: dict[str, Any]
    ) -> None:
        """Keep the continuation for the next segment, and read the memory's high-water mark."""
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
        self.handover = Continuation(self.model.id, segment, frames[-usable:], anchor, facts=facts)
        cuda = self.device.type == "cuda"
        self.meter.peak_memory_bytes = torch.cuda.max_memory_allocated(self.device) if cuda else peak_host_bytes()

    def _checkpoint(
        self, request: SegmentRequest, shape: Shape, context: Floats | None, control: EngineControl
    ) -> CheckpointFile | None:
        """Return the render's checkpoint file, or None where the request names no folder.

        A step cache depends on earlier steps, which a checkpoint does not hold: a resumed render would make other
        frames than an undisturbed one, so such models keep none. They are the fast ones anyway.
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
            "latent_shape": shape.latent,
            "steps": request.steps,
            "guidance": request.guidance,
            "guidance_2": self.model.guidance_2,
            "strength": request.strength,
            "flow_shift": self.model.flow_shift.get(request.resolution),
            "dtype": self.model.switches.transformer_dtype,
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
            self.parts.vae.clear_cache()
        except Exception as error:
            raise EnginePoisoned(f"the state of a render could not be cleared: {error}") from error

    def _free_memory(self) -> None:
        """Return freed memory to the device."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
