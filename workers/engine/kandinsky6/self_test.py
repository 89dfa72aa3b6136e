"""The self-test of Kandinsky 6: a tiny computation through the transformer and the three codec parts."""

import torch

from app.catalog.models import VideoModel
from workers.engine.kandinsky6.codec import decode_picture
from workers.engine.load import Parts
from workers.engine.optimizations import Kernels, reset_caches
from workers.engine.self_test import SelfTest

TEXT_TOKENS = 8
SOUND_LATENTS = 4


class Kandinsky6SelfTest(SelfTest):
    """Runs the transformer and the codecs on small fixed inputs and compares with the outputs of the fresh model."""

    def __init__(self, parts: Parts, model: VideoModel, kernels: Kernels) -> None:
        super().__init__(parts, model, kernels)
        self.sounds = parts.audio_vae is not None and parts.vocoder is not None

    @torch.no_grad()
    def _run(self) -> list[torch.Tensor]:
        """Return the outputs on the host: the transformer's, a decoded picture, and a little sound."""
        generator = torch.Generator("cpu").manual_seed(20)
        with self.kernels.eager():
            outputs = list(run_transformer(self.parts, generator))
        reset_caches(self.parts)
        with self.parts.on_device("vae") as vae:
            _, high, wide = self.parts.patch
            latents = torch.randn(1, int(vae.config.latent_channels), 2, 2 * high, 2 * wide, generator=generator)
            outputs += list(decode_picture(vae, latents))
        if self.sounds:
            codec, vocoder = self.parts.audio_vae, self.parts.vocoder
            waves = torch.randn(1, int(codec.config.latent_channels), SOUND_LATENTS, generator=generator)
            mel = codec.decode(waves.to(self.parts.device, codec.dtype), return_dict=False)[0]
            outputs.append(vocoder(mel.to(vocoder.dtype), return_dict=False)[0])
        return [each.float().cpu() for each in outputs]


@torch.no_grad()
def run_transformer(parts: Parts, generator: torch.Generator | None = None) -> tuple[torch.Tensor, ...]:
    """Run the transformer on noise of two by two tokens, a few of text, and a little sound."""
    with parts.on_device("transformer") as transformer:
        config, device, dtype = transformer.config, parts.device, transformer.dtype
        _, high, wide = parts.patch
        channels = 2 * config.in_visual_dim + 1 if config.visual_cond else config.in_visual_dim

        def noise(*size: int) -> torch.Tensor:
            return torch.randn(size, generator=generator).to(device, dtype)

        output: tuple[torch.Tensor, ...] = transformer(
            hidden_states=noise(1, 1, 2 * high, 2 * wide, channels),
            audio_hidden_states=noise(1, SOUND_LATENTS, config.in_audio_dim),
            encoder_hidden_states=noise(1, TEXT_TOKENS, config.in_text_dim),
            pooled_projections=noise(1, config.in_text_dim2),
            timestep=torch.full((1,), 500.0, device=device),
            return_dict=False,
        )
    return output
