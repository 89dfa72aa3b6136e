"""Conditioning: the noise, image and mask inputs of a render, for each variant of Wan."""

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from app.catalog.models import VideoModel
from app.errors import AppError
from workers.engine.continuation import Continuation
from workers.engine.decode import encode_video
from workers.engine.errors import ModelRefused
from workers.engine.load import Parts
from workers.engine.request import Frames, SegmentRequest


@dataclass(frozen=True, eq=False)
class Shape:
    """The sizes of one render: `rendered` frames, of which the first `lead` repeat the context frames."""

    rendered: int
    lead: int
    latent: tuple[int, int, int, int, int]  # [1, C, T, h, w]


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The inputs of a denoising loop.

    `latents` is the start, float32 [1, C, T, h, w]. With per-token timesteps, `mask` [1, 1, T, h, w] is 1 where the
    model generates and 0 where `condition` [1, C, T, h, w] is used as it is. For models with condition channels,
    `condition` [1, 4 + C, T, h, w] is concatenated and `mask` is None. `image_embeds` [pictures, n, d] is for Wan 2.1
    I2V.
    """

    latents: torch.Tensor
    condition: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None


def native_request(model: VideoModel, request: SegmentRequest) -> SegmentRequest:
    """Return the request in native frames, of which an upscaler draws more. Raises ModelRefused for its rate."""
    try:
        pace = model.pace(request.fps)
    except AppError as error:
        raise ModelRefused(error.message) from error
    return replace(request, frames=ceil(request.frames / pace), fps=request.fps // pace)


def shape_of(model: VideoModel, parts: Parts, request: SegmentRequest, lead: int) -> Shape:
    """Return the sizes of a render. Raises ModelRefused for sizes or frame counts that the model cannot make."""
    scale = parts.spatial_scale
    if request.width % (scale * parts.patch[2]) or request.height % (scale * parts.patch[1]):
        unit = scale * parts.patch[2]
        raise ModelRefused(f"width and height must be multiples of {unit}, not {request.width}x{request.height}")
    rendered = model.rendered_frames(request.frames + lead)
    if request.frames < 1 or rendered > model.frames_max:
        raise ModelRefused(
            f"a segment has 1 to {model.frames_max} frames, {lead} of them repeated, not {request.frames}"
        )
    channels = parts.latent_channels
    frames = (rendered - 1) // parts.temporal_scale + 1
    return Shape(rendered, lead, (1, channels, frames, request.height // scale, request.width // scale))


def repeated_frames(request: SegmentRequest, context: np.ndarray[Any, np.dtype[np.float32]] | None) -> int:
    """Return how many of the context frames were delivered before, and are dropped from the output."""
    repeats = request.handover is not None or request.mode == "extend"
    return len(context) if context is not None and repeats else 0


def context_frames(model: VideoModel, request: SegmentRequest) -> np.ndarray[Any, np.dtype[np.float32]] | None:
    """Return the frames that the segment continues from, float32 [n, H, W, 3] in 0..1, or None.

    A continuation comes before the shot's own first frame; `extend` continues the end of the request's video.
    """
    if request.handover is not None:
        request.handover.check(width=request.width, height=request.height)
        if model.handover == "none":
            raise ModelRefused(f"{model.id} cannot continue a segment")
        return request.handover.frames
    if request.mode == "extend":
        if request.video is None or not len(request.video):
            raise ModelRefused("extend needs a video to continue")
        count = min(model.handover_frames, (len(request.video) - 1) // model.frames_step * model.frames_step + 1)
        return _unit(_checked(request.video[-count:], request, "video"))
    if request.first_frame is not None:
        return _unit(_checked(request.first_frame[None], request, "first frame"))
    return None


class ConditionStage:
    """Builds the conditions of a render with the model's own picture encoders."""

    def __init__(self, model: VideoModel, parts: Parts) -> None:
        self.model = model
        self.parts = parts
        self.has_condition_channels = parts.transformer.config.in_channels > int(parts.vae.config.z_dim)
        self.has_image_encoder = parts.transformer.config.image_dim is not None

    def check(self, request: SegmentRequest, context: Any) -> None:
        """Raise ModelRefused where the request needs an input that this model does not have."""
        if request.mode not in self.model.modes and not (request.mode == "t2v" and context is not None):
            raise ModelRefused(f"{self.model.id} cannot do {request.mode}; it can do {', '.join(self.model.modes)}")
        if self.has_condition_channels and context is None:
            raise ModelRefused(f"{self.model.id} needs a first frame")
        if not self.has_condition_channels and not self.parts.expand_timesteps and context is not None:
            raise ModelRefused(f"{self.model.id} cannot use a first frame")
        if request.last_frame is not None and self.model.last_frame == "no":
            raise ModelRefused(f"{self.model.id} cannot use a last frame")
        if request.last_frame is None and self.model.last_frame == "required":
            raise ModelRefused(f"{self.model.id} needs a last frame")

    @torch.no_grad()
    def build(self, request: SegmentRequest, shape: Shape, context: Any) -> Conditioning:
        """Return the conditions of a render without v2v; `context` is float32 [n, H, W, 3] in 0..1 or None.

        The noise comes from a CPU generator, so that a seed gives the same film on every device.
        """
        device = self.parts.device
        generator = torch.Generator("cpu").manual_seed(request.seed)
        noise = randn_tensor(shape.latent, generator=generator, device=device, dtype=torch.float32)
        first = signed_video(context).to(device) if context is not None else None  # [1, 3, n, H, W]
        last = None
        if request.last_frame is not None:
            last = signed_video(_unit(_checked(request.last_frame[None], request, "last frame"))).to(device)
        if self.parts.expand_timesteps:
            return self._clean_latents(noise, first, last, shape)
        if first is None:
            return Conditioning(noise)
        condition = self._condition_channels(first, last, shape)
        return Conditioning(noise, condition, None, self._image_embeds(first, last))

    def _clean_latents(
        self, noise: torch.Tensor, first: torch.Tensor | None, last: torch.Tensor | None, shape: Shape
    ) -> Conditioning:
        """Wan 2.2 TI2V and the demo model: some latent frames are clean inputs, with timestep 0 for their tokens.

        The last latent frame stands for four frames, so a last picture is encoded as the end of a short still clip.
        """
        if first is None and last is None:
            return Conditioning(noise)
        condition = torch.zeros_like(noise)
        mask = torch.ones(1, 1, *shape.latent[2:], dtype=torch.float32, device=noise.device)
        with self.parts.on_device("vae") as vae:
            if first is not None:
                latents = encode_video(vae, first).to(noise.device)  # [1, C, k, h, w]
                condition[:, :, : latents.shape[2]] = latents
                mask[:, :, : latents.shape[2]] = 0
            if last is not None:
                still = last.expand(-1, -1, 1 + self.parts.temporal_scale, -1, -1)
                condition[:, :, -1] = encode_video(vae, still).to(noise.device)[:, :, -1]
                mask[:, :, -1] = 0
        return Conditioning(noise, condition, mask)

    def _condition_channels(self, first: torch.Tensor, last: torch.Tensor | None, shape: Shape) -> torch.Tensor:
        """Wan 2.1 I2V, FLF2V and 2.2 I2V: the known frames, grey elsewhere, encoded, behind four mask channels."""
        count, height, width = first.shape[2], first.shape[3], first.shape[4]
        blank = shape.rendered - count - (last is not None)
        pieces = [first, first.new_zeros(1, 3, blank, height, width)] + ([last] if last is not None else [])
        with self.parts.on_device("vae") as vae:
            latents = encode_video(vae, torch.cat(pieces, dim=2)).to(self.parts.device)
        step = self.parts.temporal_scale
        known = torch.zeros(1, 1, shape.rendered, *shape.latent[3:])
        known[:, :, :count] = 1
        if last is not None:
            known[:, :, -1] = 1
        known = torch.cat([known[:, :, :1].repeat_interleave(step, dim=2), known[:, :, 1:]], dim=2)
        mask = known.view(1, -1, step, *shape.latent[3:]).transpose(1, 2).to(latents)  # [1, 4, T, h, w]
        return torch.cat([mask, latents], dim=1)

    def _image_embeds(self, first: torch.Tensor, last: torch.Tensor | None) -> torch.Tensor | None:
        """Wan 2.1 I2V only: the CLIP embeddings of the first picture (and the last), [pictures, n, d]."""
        if not self.has_image_encoder:
            return None
        pictures = [_picture(first[0, :, 0])] + ([_picture(last[0, :, 0])] if last is not None else [])
        with self.parts.on_device("image_encoder") as encoder:
            inputs = self.parts.image_processor(images=pictures, return_tensors="pt").to(encoder.device)
            embeds = encoder(**inputs, output_hidden_states=True).hidden_states[-2]
        return embeds.to(self.parts.device, self.parts.transformer.dtype)

    @torch.no_grad()
    def video_latents(self, request: SegmentRequest, shape: Shape, context: Any) -> torch.Tensor:
        """Return the latents of the video to change, float32 [1, C, T, h, w]: repeated frames first, then its own.

        A video that is shorter than the render holds its last frame.
        """
        if request.video is None or not len(request.video):
            raise ModelRefused(f"{request.mode} needs a video")
        video = _unit(_checked(request.video[: request.frames], request, "video"))
        if shape.lead:
            video = np.concatenate([context[: shape.lead], video])
        missing = shape.rendered - len(video)
        video = np.concatenate([video, np.repeat(video[-1:], missing, axis=0)])
        with self.parts.on_device("vae") as vae:
            return encode_video(vae, signed_video(video).to(self.parts.device)).to(self.parts.device)


def frame_statistics(latents: torch.Tensor) -> torch.Tensor:
    """Return mean and standard deviation of each latent channel over time and space, float32 [2, C]."""
    values = latents[0].float().flatten(1)
    return torch.stack([values.mean(dim=1), values.std(dim=1)])


def correct_drift(
    latents: torch.Tensor, mask: torch.Tensor | None, handover: Continuation | None, share: float
) -> torch.Tensor:
    """Move the generated latents' look by `share` towards the first segment's: AdaIN (arXiv 1703.06868) per channel.

    Known latents (mask 0) stay as they are. Chained segments drift in colour and contrast because each one starts
    from the look of the one before; the anchor is the shot's first segment.
    """
    if handover is None or handover.anchor is None or share == 0:
        return latents
    anchor = torch.from_numpy(handover.anchor).to(latents)
    own = frame_statistics(latents).to(latents)
    shape = (1, -1, 1, 1, 1)
    matched = (latents - own[0].view(shape)) / own[1].clamp_min(1e-6).view(shape)
    matched = matched * anchor[1].view(shape) + anchor[0].view(shape)
    moved = latents + share * (matched - latents)
    return moved if mask is None else torch.where(mask == 0, latents, moved)


def _checked(pictures: Frames, request: SegmentRequest, what: str) -> Frames:
    """Return pictures that are uint8 [n, H, W, 3] of the request's size; raise ModelRefused for others."""
    if pictures.dtype != np.uint8 or pictures.shape[1:] != (request.height, request.width, 3):
        size = f"{request.width}x{request.height}"
        raise ModelRefused(f"the {what} is {pictures.dtype} {pictures.shape}, not {size} RGB bytes")
    return pictures


def _unit(pictures: Frames) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return byte pictures as float32 in 0..1."""
    return pictures.astype(np.float32) / 255.0


def signed_video(pictures: np.ndarray[Any, np.dtype[np.float32]]) -> torch.Tensor:
    """Return pictures [n, H, W, 3] in 0..1 as a video tensor [1, 3, n, H, W] in -1..1."""
    return (2.0 * torch.from_numpy(np.ascontiguousarray(pictures)) - 1.0).permute(3, 0, 1, 2).unsqueeze(0).contiguous()


def _picture(signed: torch.Tensor) -> Image.Image:
    """Return a picture tensor [3, H, W] in -1..1 as a PIL image."""
    unit = (signed * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0)
    return Image.fromarray((unit * 255).round().to(torch.uint8).cpu().numpy())
