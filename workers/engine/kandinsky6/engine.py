"""The engine of the Kandinsky 6 family: one render from request to frames and sound, in order."""

from collections.abc import Generator, Iterator
from functools import partial

import torch

from workers.engine.checkpoint import CheckpointFile
from workers.engine.conditioning import Shape, context_frames, correct_drift, repeated_frames, shape_of, signed_video
from workers.engine.continuation import Floats
from workers.engine.decode import FrameSelection
from workers.engine.errors import ModelRefused
from workers.engine.joint import denoise_jointly
from workers.engine.kandinsky6.codec import check_sound, decode_picture, decode_sound, encode_picture
from workers.engine.kandinsky6.denoise import Kandinsky6Step, is_distilled, start
from workers.engine.kandinsky6.self_test import Kandinsky6SelfTest, run_transformer
from workers.engine.kandinsky6.text import Kandinsky6Text, load_processor
from workers.engine.load import Parts, check_memory, find_weights, load_parts
from workers.engine.optimizations import apply_optimizations
from workers.engine.preview import LatentPreview
from workers.engine.request import EngineControl, Frames, SegmentRequest
from workers.engine.torch_engine import TorchEngine


class Kandinsky6Engine(TorchEngine):
    """One loaded Kandinsky 6 model on one device. Renders picture and sound of one segment at a time."""

    text: Kandinsky6Text

    def _load_parts(self) -> Parts:
        processor = load_processor(find_weights(self.model), self.model.revision)
        return load_parts(self.model, self.device, {"tokenizer": processor})

    def adopt(self, parts: Parts) -> None:
        """Use loaded parts: set the model's switches on them and record the self-test."""
        self.parts = parts
        trim = self.model.switches.trim_text
        prove = partial(run_transformer, parts)
        self.kernels = apply_optimizations(self.model, parts, prove, masked=not trim)
        key = f"{self.model.weights}@{self.model.revision}"
        self.text = Kandinsky6Text(parts, key, self.model.text_length, self._text_cache, trim=trim)
        with parts.on_device("vae") as vae:
            self.preview = LatentPreview.fit(vae, encode_picture, parts.spatial_scale)
        self.self_test = Kandinsky6SelfTest(parts, self.model, self.kernels)
        self.self_test.record()
        self._loaded = True

    def _stage_names(self) -> tuple[str, ...]:
        return ("parts", "text", "preview", "self_test")

    def render(self, request: SegmentRequest, control: EngineControl) -> Generator[Frames]:
        """Yield the segment's frames as uint8 chunks [f, H, W, 3], then set `sound`; see `Engine.render`."""
        self.load()
        self._begin()
        with self._clean_room():
            checkpoint = None
            try:
                control.check()
                context = context_frames(self.model, request)
                self._check(request, context)
                lead = repeated_frames(request, context)
                shape = shape_of(self.model, self.parts, request, lead)
                check_memory(self.model, self.device, request.width, request.height, shape.rendered)
                more = {"fps": request.fps}  # the sound's length follows from it
                checkpoint = self._checkpoint(request, shape.latent, context, control, more)
                picture, waves = self._latents(request, shape, context, control, checkpoint)
                yield from self._frames(request, shape, context, picture, control)
                if request.sound:
                    self._decode_sound(request, shape, waves, control)
            finally:
                if checkpoint is not None:
                    checkpoint.close()

    def _check(self, request: SegmentRequest, context: Floats | None) -> None:
        """Raise ModelRefused where the request needs an input that these weights do not have."""
        config = self.parts.transformer.config
        if request.mode not in self.model.modes and not (request.mode == "t2v" and context is not None):
            raise ModelRefused(f"{self.model.id} cannot do {request.mode}; it can do {', '.join(self.model.modes)}")
        if request.mode == "i2v" and context is None:
            raise ModelRefused(f"{self.model.id} needs a first frame")
        if context is not None and not (config.visual_cond and config.visual_token_type_num_embeddings > 1):
            raise ModelRefused(f"the weights of {self.model.id} cannot use a first frame")
        if request.last_frame is not None:
            raise ModelRefused(f"{self.model.id} cannot use a last frame")
        if request.guidance > 1 and is_distilled(self.parts):
            raise ModelRefused(
                f"{self.model.id} is distilled and has no guidance: it must be 1, not {request.guidance}"
            )
        check_sound(self.parts, self.model.id)

    def _latents(
        self,
        request: SegmentRequest,
        shape: Shape,
        context: Floats | None,
        control: EngineControl,
        checkpoint: CheckpointFile | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode text and first frame, and denoise; return the latents [1, C, T, h, w] and [1, c, L]."""
        with self.meter.stage("text"):
            guided = request.guidance > 1
            prompt, is_hit = self.text.encode(request.prompt)
            negative, is_negative_hit = self.text.encode(self._negative(request)) if guided else (None, False)
        self.meter.text_cache_hits = is_hit + is_negative_hit
        with self.meter.stage("denoise"):
            # The transformer is shown one frame: the last of those that the segment continues.
            first = None if context is None else signed_video(context[-1:]).to(self.device)
            begin = start(self.parts, request, shape, first)
            step = Kandinsky6Step(self.parts, begin, prompt, negative, request.guidance)
            shift = self.model.flow_shift.get(request.resolution)
            plan = step.plan(request.steps, shift, self.model.switches.preview_steps)
            with self.kernels.for_shape(request.width, request.height, shape.rendered):
                picture, waves = denoise_jointly(plan, control, self.meter, self.preview, checkpoint)
            if begin.first is not None:
                picture = picture[:, :-1]
            latents = picture.permute(0, 4, 1, 2, 3)
            latents = correct_drift(latents, None, request.handover, self.model.drift_correction)
            return latents, waves.permute(0, 2, 1)

    def _frames(
        self,
        request: SegmentRequest,
        shape: Shape,
        context: Floats | None,
        latents: torch.Tensor,
        control: EngineControl,
    ) -> Iterator[Frames]:
        """Decode and yield exactly the requested frames."""
        selection = FrameSelection(
            rendered=shape.rendered,
            lead=shape.lead,
            frames=request.frames,
            context=self.model.handover_frames,
            keep_last=False,
        )
        with self.parts.on_device("vae") as vae:
            draw = partial(selection.select, check=control.check)
            yield from self._deliver(decode_picture(vae, latents), draw, context, shape.lead)
        self._save_continuation(request, selection, latents)

    def _decode_sound(self, request: SegmentRequest, shape: Shape, waves: torch.Tensor, control: EngineControl) -> None:
        """Set `sound` to that of the delivered frames. Raises BadSound where the codec made none that can be stored."""
        control.check()
        with self.meter.stage("decode"):
            self.sound = decode_sound(self.parts, waves, lead=shape.lead, frames=request.frames, fps=request.fps)
