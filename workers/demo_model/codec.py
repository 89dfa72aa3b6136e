"""The video codec: a small AutoencoderKLWan, its unclamped decoding for training, and its latents' statistics."""

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from torch import Tensor

LATENT_CHANNELS = 16


def make_codec() -> AutoencoderKLWan:
    """An untrained codec of 0.70 M parameters: 8 x 8 x 4 compression, Wan 2.2's patches, 16 latent channels."""
    codec = AutoencoderKLWan(
        base_dim=16,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        z_dim=LATENT_CHANNELS,
        temperal_downsample=[True, True],
        is_residual=True,
        patch_size=2,
        in_channels=12,
        out_channels=12,
        scale_factor_spatial=8,
        scale_factor_temporal=4,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
    )
    with torch.no_grad():  # Begin with little noise on the latents, so that the decoder has something to learn from.
        assert codec.quant_conv.bias is not None
        codec.quant_conv.bias[LATENT_CHANNELS:] = -5.0
    return channels_last(codec)


def channels_last(codec: AutoencoderKLWan) -> AutoencoderKLWan:
    """Lay the weights out channels last, which CPUs compute faster; `codec.to(memory_format=…)` refuses."""
    for param in codec.parameters():
        if param.ndim == 5:
            param.data = param.data.contiguous(memory_format=torch.channels_last_3d)
        elif param.ndim == 4:
            param.data = param.data.contiguous(memory_format=torch.channels_last)
    return codec


def encode_moments(codec: AutoencoderKLWan, video: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the latents of a video [B, 3, F, H, W] in -1..1, each [B, 16, f, H/8, W/8]."""
    mean, log_variance = codec._encode(video).chunk(2, dim=1)
    return mean, log_variance.clamp(-30.0, 20.0)


def decode_unclamped(codec: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Decode raw latents as `codec.decode` does, without its clamp, which would stop gradients; [B, 3, F, H, W]."""
    codec.clear_cache()
    hidden = codec.post_quant_conv(latents)
    chunks = []
    for index in range(hidden.shape[2]):
        codec._conv_idx = [0]
        chunk = hidden[:, :, index : index + 1]
        chunks.append(
            codec.decoder(chunk, feat_cache=codec._feat_map, feat_idx=codec._conv_idx, first_chunk=index == 0)
        )
    codec.clear_cache()
    return unpatchify(torch.cat(chunks, dim=2), patch_size=codec.config.patch_size)


def statistics(codec: AutoencoderKLWan) -> tuple[Tensor, Tensor]:
    """The codec's stored latent mean and standard deviation, each [1, 16, 1, 1, 1]."""
    mean = torch.tensor(codec.config.latents_mean, device=codec.device).view(1, -1, 1, 1, 1)
    std = torch.tensor(codec.config.latents_std, device=codec.device).view(1, -1, 1, 1, 1)
    return mean, std
