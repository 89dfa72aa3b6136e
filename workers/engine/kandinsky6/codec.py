"""The codecs of Kandinsky 6: HunyuanVideo's for the picture, tile by tile in time, and MMAudio's for the sound."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from workers.engine.errors import ModelRefused
from workers.engine.load import Parts
from workers.engine.sound import Sound, sample_count


@torch.no_grad()
def encode_picture(vae: Any, video: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return the scaled latents of a video, [1, C, f, h, w]; video [1, 3, F, H, W] in -1..1.

    With a generator the posterior is sampled, as diffusers' pipeline does; else its mode is the result.
    """
    posterior = vae.encode(video.to(vae.device, vae.dtype)).latent_dist
    latents = posterior.mode() if generator is None else posterior.sample(generator)
    return latents * vae.config.scaling_factor


@torch.no_grad()
def decode_picture(vae: Any, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the decoded video piece by piece, [1, 3, f, H, W] in about -1..1; latents [1, C, T, h, w].

    The VAE itself decodes long clips in tiles of time that overlap, and blends them. These are the same operations in
    the same order, so the result is equal to the bit; only two tiles are held at a time, and a stop takes effect
    between them.
    """
    scaled = latents.to(vae.device, vae.dtype) / vae.config.scaling_factor
    scale = vae.temporal_compression_ratio
    longest = vae.tile_sample_min_num_frames // scale
    if not vae.use_framewise_decoding or scaled.shape[2] <= longest:
        yield vae.decode(scaled, return_dict=False)[0]
        return
    stride = vae.tile_sample_stride_num_frames
    blended = vae.tile_sample_min_num_frames - stride
    missing = (scaled.shape[2] - 1) * scale + 1
    before = None
    for start in range(0, scaled.shape[2], stride // scale):
        tile = vae.decoder(vae.post_quant_conv(scaled[:, :, start : start + longest + 1]))
        if before is None:
            piece = tile[:, :, : stride + 1]
        else:
            tile = vae.blend_t(before, tile[:, :, 1:], blended)
            piece = tile[:, :, :stride]
        before = tile
        piece = piece[:, :, :missing]
        missing -= piece.shape[2]
        if piece.shape[2]:
            yield piece


def sound_length(parts: Parts, latent_frames: int, fps: int) -> int:
    """Return how many sound latents belong to so many latent frames of the picture: never less than they last."""
    frames = (latent_frames - 1) * parts.temporal_scale + 1
    # diffusers' own order of floating-point operations, which decides the ceiling where the product is a whole number.
    exact = frames / float(fps) * parts.audio_vae.config.sample_rate / parts.audio_vae.latent_hop_length
    return int(np.ceil(exact))


@torch.no_grad()
def decode_sound(parts: Parts, latents: torch.Tensor, *, lead: int, frames: int, fps: int) -> Sound:
    """Return the sound of `frames` delivered frames after `lead` repeated ones; latents [1, C, L].

    The vocoder makes one channel, which both ears hear. Raises BadSound for samples that cannot be stored.
    """
    codec, vocoder = parts.audio_vae, parts.vocoder
    mel = codec.decode(latents.to(codec.dtype) / codec.config.scaling_factor, return_dict=False)[0]
    wave = vocoder(mel.to(vocoder.dtype), return_dict=False)[0][0, 0].float().cpu().numpy()
    rate = int(codec.config.sample_rate)
    own = wave[sample_count(lead, fps, rate) :][: sample_count(frames, fps, rate)]
    samples = np.zeros((sample_count(frames, fps, rate), 2), np.float32)
    samples[: len(own)] = own[:, None]
    return Sound(samples, rate)


def check_sound(parts: Parts, model_id: str) -> None:
    """Raise ModelRefused where the weights lack the sound's codec or vocoder."""
    if parts.audio_vae is None or parts.vocoder is None:
        raise ModelRefused(f"the weights of {model_id} have no sound codec")
