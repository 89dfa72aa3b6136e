"""Small previews of an unfinished clip: a linear map from latent cells to colours, fitted once per model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from workers.engine.decode import encode_video
from workers.engine.request import Frames

CELLS = 16


class LatentPreview:
    """Draws one small picture from latents, a cell each, without the decoder.

    The latents of Wan-like VAEs are nearly linear in the mean colour of their cell, so a least-squares fit on one
    picture of inputs colours gives a usable preview for any VAE, at the price of one encoded frame at load.
    """

    def __init__(self, weights: torch.Tensor) -> None:
        self._weights = weights  # [C + 1, 3], the last row is the constant

    @classmethod
    @torch.no_grad()
    def fit(
        cls, vae: Any, encode: Callable[[Any, torch.Tensor], torch.Tensor] = encode_video, scale: int | None = None
    ) -> "LatentPreview":
        """Fit the map on a picture of coloured fields that is a quarter gradient, encoded by the model's own VAE.

        `encode` makes latents [1, C, f, h, w] of a video, `scale` is the VAE's pixels per cell; both default to Wan's.
        """
        scale = scale or int(vae.config.scale_factor_spatial)
        generator = np.random.default_rng(7)
        fields = generator.random((CELLS // 2, CELLS // 2, 3), dtype=np.float32).repeat(2, 0).repeat(2, 1)
        ramp = np.linspace(0, 1, CELLS, dtype=np.float32)
        fields[: CELLS // 2, : CELLS // 2] = ramp[: CELLS // 2, None, None]
        colours = torch.from_numpy(fields)  # [CELLS, CELLS, 3] in 0..1
        picture = colours.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
        video = (picture * 2 - 1).permute(2, 0, 1)[None, :, None]  # [1, 3, 1, H, W]
        latents = encode(vae, video)[0, :, 0].flatten(1).T.float().cpu()  # [cells, C]
        inputs = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
        solution = torch.linalg.lstsq(inputs, colours.reshape(-1, 3), driver="gelsd").solution
        return cls(solution.to(vae.device))

    def __call__(self, latents: torch.Tensor) -> Frames:
        """Return the middle latent frame as uint8 [h, w, 3]; latents [1, C, T, h, w]."""
        middle = latents[0, :, latents.shape[2] // 2].float().permute(1, 2, 0)  # [h, w, C]
        weights = self._weights.to(middle.device)
        colours = middle @ weights[:-1] + weights[-1]
        return (colours.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
