"""The Wan family (2.1 and 2.2): one render from request to frames, in order."""

from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from app.catalog.models import STRENGTH_MODES
from workers.engine.checkpoint import CheckpointFile
from workers.engine.conditioning import (
    Conditioning,
    ConditionStage,
    Shape,
    context_frames,
    correct_drift,
    native_request,
    repeated_frames,
    shape_of,
)
from workers.engine.continuation import Floats
from workers.engine.decode import FrameSelection, decode_floats
from workers.engine.denoise import DenoiseStage, Plan
from workers.engine.errors import ModelRefused
from workers.engine.heard_pictures import HeardPictures
from workers.engine.load import Parts, check_memory, clone_scheduler
from workers.engine.optimizations import apply_optimizations
from workers.engine.preview import LatentPreview
from workers.engine.request import EngineControl, Frames, SegmentRequest
from workers.engine.self_test import SelfTest
from workers.engine.text import TextStage
from workers.engine.torch_engine import TorchEngine
from workers.engine.upscaler import deliver


class WanEngine(TorchEngine):
    """One loaded Wan model on one device. Renders one segment at a time; none leaves state for the next."""

    text: TextStage

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

    def _stage_names(self) -> tuple[str, ...]:
        return ("parts", "text", "conditions", "denoise", "preview", "self_test")

    def render(self, request: SegmentRequest, control: EngineControl) -> Generator[Frames]:
        """Yield the segment's frames as uint8 chunks [f, H, W, 3]; see `Engine.render`."""
        self.load()
        self._begin()
        with self._clean_room():
            checkpoint = None
            try:
                control.check()
                native = native_request(self.model, request)
                context = context_frames(self.model, native)
                self.conditions.check(native, context)
                shape = shape_of(self.model, self.parts, native, repeated_frames(native, context))
                check_memory(self.model, self.device, native.width, native.height, shape.rendered)
                checkpoint = self._checkpoint(native, shape.latent, context, control)
                latents = self._latents(native, shape, context, control, checkpoint)
                yield from self._frames(request, native, shape, context, latents, control)
            finally:
                if checkpoint is not None:
                    checkpoint.close()

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
            heard = HeardPictures()
            draw = partial(
                deliver,
                self.parts.upscaler,
                selection,
                check=control.check,
                aspect=self.model.pixel_aspect(native.width, native.height),
                first=shape.lead,
                frames=request.frames,
                pace=request.fps // native.fps,
            )
            pieces = decode_floats(vae, latents)
            yield from self._deliver(pieces, draw, context, shape.lead, heard if request.sound else None)
        if request.sound:
            with self.meter.stage("decode"):
                self.sound = heard.sound(request, lead=shape.lead, fps=native.fps)
        self._save_continuation(native, selection, latents, heard.facts)
