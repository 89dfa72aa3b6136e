"""Predict the memory and arithmetic of a render from a model's sizes: for admission, ETA and benchmarks."""

from dataclasses import dataclass

from app.catalog.engine_facts import Architecture
from app.catalog.models import VideoModel

RESERVE_BYTES = 1 << 30
# Live copies at the widest moment, counted in diffusers 0.42 (transformer_wan.py, autoencoder_kl_wan.py).
HIDDEN_COPIES = 10  # normed, modulated, q, k, v, attended, residual, in half and single precision
FEED_FORWARD_COPIES = 2
DECODE_COPIES = 32  # four frames in four live feature maps, and two cached frames of eight causal convolutions
# HunyuanVideo's codec decodes 17 frames at a time, the widest maps with twice its base channels (three of them live).
TILE_DECODE_COPIES = 17 * (3 * 2 + 2)


@dataclass(frozen=True)
class Peak:
    """Predicted bytes: all weights, the denoising loop's activations, the decoder's, and the greatest sum."""

    weights: int
    denoise: int
    decode: int
    total: int


def tokens(architecture: Architecture, width: int, height: int, frames: int) -> int:
    """Return the tokens of a clip: latent frames times patches of the latent grid."""
    cell = architecture.spatial_scale * architecture.patch
    return ((frames - 1) // architecture.temporal_scale + 1) * (width // cell) * (height // cell)


def forward_flops(model: VideoModel, width: int, height: int, frames: int) -> int:
    """Return the floating-point operations of one transformer forward pass (a multiply-add counts as two).

    Per layer: the projections, self-attention over all tokens, cross-attention over the text, and the feed-forward
    part. Agrees with torch's FlopCounterMode on WanTransformer3DModel.
    """
    sizes = _sizes(model)
    count, dim = tokens(sizes, width, height, frames), sizes.dim
    linear = 2 * count * (4 * dim * dim + 2 * dim * dim + 2 * dim * sizes.ffn_dim)
    attention = 4 * count * count * dim + 4 * count * model.text_length * dim
    words = 2 * model.text_length * 2 * dim * dim
    return sizes.layers * (linear + attention + words)


def predict_peak(model: VideoModel, width: int, height: int, frames: int) -> Peak:
    """Return the predicted peak memory of a render, in bytes. It is meant to err upwards, for admission.

    With `offload = "model"` only the largest part is on the device at a time.
    """
    sizes = _sizes(model)
    experts = 2 if model.boundary_ratio is not None else 1
    transformer = sizes.transformer_params * sizes.weight_bytes + sizes.full_params * (4 - min(sizes.weight_bytes, 4))
    text = sizes.text_params * sizes.weight_bytes
    small = (sizes.vae_params + sizes.image_params) * 4
    count = tokens(sizes, width, height, frames) * (2 if model.switches.cfg_batch else 1)
    per_token = HIDDEN_COPIES * sizes.dim + FEED_FORWARD_COPIES * sizes.ffn_dim
    if model.expand_timesteps:
        per_token += 3 * 6 * sizes.dim  # one modulation per token, in single precision, three copies
    denoise = count * per_token * 4
    if model.family == "kandinsky6":
        decode = width * height * sizes.vae_base_dim * TILE_DECODE_COPIES * _vae_bytes(model)
    else:
        halving = 4 if sizes.spatial_scale == 16 else 1  # the Wan 2.2 decoder works on a grid of 2 x 2 pixel patches
        decode = width * height * sizes.vae_base_dim * 4 * DECODE_COPIES // halving
    if model.switches.offload == "model":
        weights = max(transformer, text, small)
    else:
        weights = experts * transformer + text + small
    return Peak(weights, denoise, decode, weights + max(denoise, decode) + RESERVE_BYTES)


def needed_mb(model: VideoModel, width: int, height: int, frames: int) -> int:
    """Return the MiB that a render needs, rounded up; 0 for a model without weights."""
    if model.architecture is None:
        return 0
    return -(-predict_peak(model, width, height, frames).total // 2**20)


def why_too_large(model: VideoModel, width: int, height: int, frames: int, available: int) -> str | None:
    """Return a sentence that says why a render cannot fit into `available` bytes, or None where it can.

    It decides both at submission and on the worker. A model without weights always fits.
    """
    if model.architecture is None:
        return None
    needed = predict_peak(model, width, height, frames).total
    if needed <= available:
        return None
    most = f"{available / 2**30:.1f} GiB"
    return f"{model.id} at {width}x{height} with {frames} frames needs about {needed / 2**30:.1f} GiB; there is {most}."


def _vae_bytes(model: VideoModel) -> int:
    """Return the bytes of one value in the picture codec."""
    return 4 if model.switches.vae_dtype == "float32" else 2


def _sizes(model: VideoModel) -> Architecture:
    """Return a model's sizes. Raises ValueError for a model without weights, which costs nothing to predict."""
    if model.architecture is None:
        raise ValueError(f"{model.id} has no architecture")
    return model.architecture
