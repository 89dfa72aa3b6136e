"""Faster 3-D convolutions for the VAE on a CPU: oneDNN, where torch would choose its slow fallback."""

from functools import partial
from typing import Any

import torch


def use_onednn(vae: Any) -> int:
    """Make the VAE's 3-D convolutions run on oneDNN; return how many there are, 0 where oneDNN is missing.

    torch 2.11 and 2.13 send a single small clip to `slow_conv3d` (a rule about batch and size in Convolution.cpp),
    which takes about four times as long as oneDNN on the shapes of a small Wan decoder. The sums are made in another
    order, so results differ in the last bits of float32: in 8-bit frames at most by one level, in very few pixels.
    """
    if vae.device.type != "cpu" or vae.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return 0
    found = [each for each in vae.modules() if isinstance(each, torch.nn.Conv3d) and each.groups == 1]
    for each in found:
        # `_conv_forward` is what nn.Conv3d.forward calls after padding; WanCausalConv3d pads by itself before it.
        each._conv_forward = partial(_convolve, each)
    return len(found)


def _convolve(
    layer: torch.nn.Conv3d, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Convolve [B, C, F, H, W] with the layer's stride, padding and dilation."""
    return torch.ops.aten.mkldnn_convolution(
        inputs, weight, bias, list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups
    )
