"""A faster Wan VAE with the same weights: better kernels and fewer passes over memory, equal up to float32 rounding."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm

NORM_EPSILON = 1e-24
"""Keeps a pixel of zeros at zero, as `F.normalize` does with 1e-12 under the root."""


def speed_up_vae(vae: Any, device: torch.device) -> int:
    """Make the VAE's layers run on faster kernels of `device`; return how many layers were changed.

    Its weights may be elsewhere now: an offloaded VAE waits in the host's memory for its turn on the GPU.
    The sums are made in another order. In 8-bit frames that is at most one level: on a CPU in very few pixels, on CUDA
    in a few of a hundred, because cuDNN rounds what it multiplies to TF32 either way. Other dtypes stay as they are.
    """
    if vae.dtype != torch.float32:
        return 0
    if device.type == "cuda":
        return use_channels_last(vae)
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        return use_onednn(vae)
    return 0


def use_onednn(vae: Any) -> int:
    """Make the 3-D convolutions run on oneDNN; return how many there are.

    torch 2.11 and 2.13 send a single small clip to `slow_conv3d` (a rule about batch and size in Convolution.cpp),
    which takes about four times as long as oneDNN on the shapes of a small Wan decoder.
    """
    layers = [each for each in vae.modules() if isinstance(each, torch.nn.Conv3d) and each.groups == 1]
    for layer in layers:
        # `_conv_forward` is what nn.Conv3d.forward calls after padding; WanCausalConv3d pads by itself before it.
        layer._conv_forward = partial(_onednn, layer)
    return len(layers)


def use_channels_last(vae: Any) -> int:
    """Lay the weights out as cuDNN's kernels want them, channels last; return how many layers were changed.

    Pictures then keep that layout from layer to layer and are not converted before and after each convolution.
    Borders are left to the convolution, and a normalisation is one kernel where diffusers' takes six.
    """
    changed = 0
    for layer in vae.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last)
        elif isinstance(layer, WanCausalConv3d):
            layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last_3d)
            layer.forward = partial(_causal, layer)
        elif isinstance(layer, WanRMS_norm) and layer.channel_first and not torch.is_tensor(layer.bias):
            layer.forward = partial(_normalised, layer)
        else:
            continue
        changed += 1
    return changed


def _onednn(
    layer: torch.nn.Conv3d, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Convolve [B, C, F, H, W] with the layer's stride, padding and dilation."""
    return torch.ops.aten.mkldnn_convolution(
        inputs, weight, bias, list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups
    )


def _causal(layer: WanCausalConv3d, inputs: torch.Tensor, before: torch.Tensor | None = None) -> torch.Tensor:
    """Convolve [B, C, F, H, W] after the frames `before` it, and zeros before those; the borders are the kernel's."""
    wide, _, high, _, lead, _ = layer._padding
    if before is not None and lead > 0:
        inputs = torch.cat([before.to(inputs.device), inputs], dim=2)
        lead -= before.shape[2]
    if lead > 0:
        inputs = F.pad(inputs, (0, 0, 0, 0, lead, 0))
    return F.conv3d(inputs, layer.weight, layer.bias, layer.stride, (0, high, wide), layer.dilation, layer.groups)


def _normalised(layer: WanRMS_norm, inputs: torch.Tensor) -> torch.Tensor:
    """Normalise [B, C, ...] over the channels: x / |x| * sqrt(C) is x over its root mean square."""
    channels = inputs.shape[1]
    last = F.rms_norm(inputs.movedim(1, -1), (channels,), layer.gamma.flatten(), NORM_EPSILON)
    return last.movedim(-1, 1)
