"""Make clips in batches, in every mode, as WanPipeline makes them with `expand_timesteps`.

An input (first frame, last frames of the previous clip, last frame) is encoded, normalised and laid over the
latents before each step; its tokens have timestep 0; after the last step it is laid over the result once more:

- first frame: latent frame 0 is the encoded picture (one frame);
- continuation: the leading 1 + k latent frames are the encoded last 1 + 4k frames of the previous clip, k = 2; these
  frames are made again and dropped, and the seam is smoothed as the engine does it;
- last frame: the last latent frame is the last one of the encoded still clip of 1 + 4 pictures; the film ends on it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import WanPipeline
from torch import Tensor

from workers.demo_model.codec import statistics
from workers.demo_model.components import embed, token_ids
from workers.demo_model.config import GUIDANCE, MAX_SEQUENCE_LENGTH, SPATIAL, STEPS, TEMPORAL, latent_frames
from workers.engine.decode import smooth_seam, to_bytes

STILL_FRAMES = 1 + TEMPORAL
"""Frames of the still clip that a last frame is encoded as."""


@dataclass(frozen=True)
class ConditionFrames:
    """What clips must begin or end with, each uint8: lead [B, 4k+1, H, W, 3] and last [B, H, W, 3], or None."""

    lead: np.ndarray | None = None
    last: np.ndarray | None = None


def to_video(frames: np.ndarray) -> Tensor:
    """Frames uint8 [B, F, H, W, 3] as a codec's input [B, 3, F, H, W] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def to_frames(video: Tensor) -> np.ndarray:
    """A codec's output [B, 3, F, H, W] in -1..1 as frames uint8 [B, F, H, W, 3]."""
    return ((video.permute(0, 2, 3, 4, 1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


@torch.no_grad()
def encode(pipeline: WanPipeline, frames: np.ndarray) -> Tensor:
    """Normalised latents [B, 16, f, h, w] of frames uint8 [B, F, H, W, 3]."""
    mean, std = statistics(pipeline.vae)
    return (pipeline.vae.encode(to_video(frames)).latent_dist.mode() - mean) / std


@torch.no_grad()
def decode(pipeline: WanPipeline, latents: Tensor) -> np.ndarray:
    """Frames uint8 [B, F, H, W, 3] of normalised latents [B, 16, f, h, w]."""
    mean, std = statistics(pipeline.vae)
    return to_frames(pipeline.vae.decode(latents * std + mean).sample)


@torch.no_grad()
def generate(
    pipeline: WanPipeline,
    prompts: list[str],
    width: int,
    height: int,
    frames: int,
    seeds: list[int],
    known: ConditionFrames = ConditionFrames(),
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> np.ndarray:
    """Make one clip per prompt, uint8 [B, F, H, W, 3].

    `prompts` are captions in the model's vocabulary. `width` and `height` are a native size in pixels, multiples of 16,
    and `frames` is 4k + 1. `seeds` has one per clip: the same seed makes the same clip whatever else is in the batch,
    up to rounding. `known` are pictures that the clips begin or end with. `steps` are Euler steps; `guidance` is the
    scale of classifier-free guidance (1 and less: none).
    """
    count = latent_frames(frames)
    shape = (16, count, height // SPATIAL, width // SPATIAL)
    latents = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    free = torch.ones(count, dtype=torch.bool)
    conditions = torch.zeros_like(latents)
    if known.lead is not None:
        lead = encode(pipeline, known.lead)
        free[: lead.shape[2]] = False
        conditions[:, :, : lead.shape[2]] = lead
    if known.last is not None:
        free[-1] = False
        conditions[:, :, -1] = encode(pipeline, np.repeat(known.last[:, None], STILL_FRAMES, axis=1))[:, :, -1]
    mask = free.view(1, 1, -1, 1, 1).float()  # [1, 1, f, 1, 1]
    text = _text(pipeline, prompts)
    blank = _text(pipeline, [""] * len(prompts)) if guidance > 1 else None
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(steps)
    tokens = (height // SPATIAL // 2) * (width // SPATIAL // 2)
    for t in scheduler.timesteps:
        mixed = (1 - mask) * conditions + mask * latents
        timestep = (free.float() * t).repeat_interleave(tokens)[None].expand(len(prompts), -1)  # [B, L]
        velocity = pipeline.transformer(mixed, timestep=timestep, encoder_hidden_states=text, return_dict=False)[0]
        if blank is not None:
            without = pipeline.transformer(mixed, timestep=timestep, encoder_hidden_states=blank, return_dict=False)[0]
            velocity = without + guidance * (velocity - without)
        latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
    clips = decode(pipeline, (1 - mask) * conditions + mask * latents)
    if known.lead is not None and known.lead.shape[1] > 1:
        clips = np.stack([_smoothed(clip, lead) for clip, lead in zip(clips, known.lead, strict=True)])
    return clips


def _smoothed(clip: np.ndarray, lead: np.ndarray) -> np.ndarray:
    """A continuation uint8 [F, H, W, 3] whose first new frame follows the last frame of `lead` without a jump."""
    pieces = iter([torch.from_numpy(clip).float() / 255])
    mended = next(smooth_seam(pieces, lead.astype(np.float32) / np.float32(255), len(lead)))
    return to_bytes(mended).numpy()


def _text(pipeline: WanPipeline, prompts: list[str]) -> Tensor:
    """Text embeddings [B, 24, 64], as the pipeline makes them at max_sequence_length 24."""
    ids, mask = token_ids(pipeline.tokenizer, prompts)
    assert ids.shape[1] == MAX_SEQUENCE_LENGTH
    return embed(pipeline.text_encoder, ids, mask)
