"""Sound for a clip of the demo model: from the clean latents of its picture to samples, segment by segment."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from workers.demo_model.facts import FRAMES_MAX, TEMPORAL, latent_frames
from workers.demo_model.parts import WEIGHTS
from workers.demo_model.sound_head import CHANNELS, SoundHead, controls_from
from workers.demo_model.sound_law import Controls
from workers.demo_model.sound_synthesis import SoundCarry, synthesise
from workers.engine.sound import SOUND_RATE, BadSound, Sound, sample_count


@dataclass(frozen=True)
class SoundModel:
    """The trained head with the synthesiser behind it. It keeps nothing between calls."""

    head: SoundHead

    @classmethod
    def load(cls, weights: Path = WEIGHTS) -> "SoundModel":
        """Load the head from the folder of the demo model's weights, in float32."""
        head = SoundHead()
        head.load_state_dict(load_file(weights / "sound_head" / "model.safetensors"))
        return cls(head.float().eval())

    @torch.no_grad()
    def controls(self, latents: Tensor) -> list[Controls]:
        """What is heard in clips, from their normalised latents [B, 16, f, h, w].

        Raises ValueError for latents of another shape, or longer than the head knows, and BadSound where the head
        says what is no number.
        """
        if latents.ndim != 5 or latents.shape[1] != CHANNELS or latents.shape[2] > latent_frames(FRAMES_MAX):
            raise ValueError(f"latents are [B, {CHANNELS}, f, h, w] with f ≤ {latent_frames(FRAMES_MAX)}")
        answer = self.head(latents.float().cpu())
        if not all(torch.isfinite(part).all() for part in (answer.knobs, answer.shapes, answer.presence)):
            raise BadSound("the sound head made numbers that are not finite")
        return controls_from(answer, 1 + TEMPORAL * (latents.shape[2] - 1))

    def generate(
        self,
        latents: Tensor,
        *,
        seed: int,
        frames: int,
        fps: int | Fraction,
        start: float = 0.0,
        carry: SoundCarry | None = None,
    ) -> tuple[Sound, SoundCarry]:
        """The sound of a segment, and what continues it.

        `latents` [1, 16, f, h, w] are normalised and clean. `frames` are delivered, at `fps`; the sound has
        round(frames · 48000 / fps) samples. `start` is where the delivered part begins, in seconds of the clip: the
        native frames that a hand-over repeats, divided by 8. `seed` decides the noise of clicks.
        Raises ValueError for latents of another shape, and BadSound where the head makes no numbers.
        """
        (controls,) = self.controls(latents)
        count = sample_count(frames, fps, SOUND_RATE)
        samples, after = synthesise(controls, count, seed=seed, start=start, carry=carry)
        return Sound(samples), after
