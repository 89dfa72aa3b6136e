"""The self-test: a tiny computation through every part, recorded at load and compared after an error."""

import logging
from typing import Any

import torch

from app.catalog.models import VideoModel
from workers.engine.decode import decode_floats
from workers.engine.load import Parts
from workers.engine.optimizations import Kernels, reset_caches

IMAGE_TOKENS = 257  # what CLIP ViT-H/14 gives for one picture of 224 x 224
logger = logging.getLogger(__name__)


class SelfTest:
    """Runs each transformer and the VAE on a small fixed input and compares with the outputs of the fresh model."""

    def __init__(self, parts: Parts, model: VideoModel, kernels: Kernels) -> None:
        self.parts = parts
        self.kernels = kernels
        self.text_length = model.text_length
        self._recorded: list[torch.Tensor] = []

    def record(self) -> None:
        """Record the outputs of the freshly loaded model. This also warms the kernels up."""
        self._recorded = self._run()

    def passes(self) -> bool:
        """Whether the outputs are still those of the fresh model, up to rounding."""
        try:
            outputs = self._run()
        except Exception as error:  # noqa: BLE001 (a broken device raises many types, and each means the same)
            logger.error("the self-test raised %s: %s", type(error).__name__, error)
            return False
        return all(
            torch.allclose(now, then, atol=1e-2, rtol=1e-2) for now, then in zip(outputs, self._recorded, strict=True)
        )

    @torch.no_grad()
    def _run(self) -> list[torch.Tensor]:
        """Return the outputs on the host: one per transformer, and one decoded picture."""
        generator = torch.Generator("cpu").manual_seed(20)
        outputs = []
        for name in ("transformer", "transformer_2"):
            if getattr(self.parts, name) is not None:
                with self.parts.on_device(name) as transformer, self.kernels.eager():
                    outputs.append(self._forward(transformer, generator).float().cpu())
        reset_caches(self.parts)
        with self.parts.on_device("vae") as vae:
            _, high, wide = self.parts.patch
            latents = torch.randn(1, int(vae.config.z_dim), 2, 2 * high, 2 * wide, generator=generator)
            outputs += [piece.float().cpu() for piece in decode_floats(vae, latents)]
        return outputs

    def _forward(self, transformer: Any, generator: torch.Generator) -> torch.Tensor:
        """Run one transformer on noise of two by two tokens."""
        config, device, dtype = transformer.config, self.parts.device, transformer.dtype
        _, high, wide = self.parts.patch
        hidden = torch.randn(1, config.in_channels, 1, 2 * high, 2 * wide, generator=generator).to(device, dtype)
        prompt = torch.randn(1, self.text_length, config.text_dim, generator=generator).to(device, dtype)
        images = None
        if config.image_dim is not None:
            # First-and-last-frame models take two pictures, whose tokens share one position embedding.
            pictures, tokens = (2, config.pos_embed_seq_len // 2) if config.pos_embed_seq_len else (1, IMAGE_TOKENS)
            images = torch.randn(pictures, tokens, config.image_dim, generator=generator).to(device, dtype)
        timestep = torch.full((1, 4) if self.parts.expand_timesteps else (1,), 500.0, device=device)
        with transformer.cache_context("cond"):
            output: torch.Tensor = transformer(
                hidden_states=hidden,
                timestep=timestep,
                encoder_hidden_states=prompt,
                encoder_hidden_states_image=images,
                return_dict=False,
            )[0]
        return output
