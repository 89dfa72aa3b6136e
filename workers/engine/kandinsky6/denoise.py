"""What one render of Kandinsky 6 denoises: start, conditions, and the transformer's call at each step."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import PiflowScheduler
from diffusers.utils.torch_utils import randn_tensor

from workers.engine.conditioning import Shape
from workers.engine.joint import JointPlan
from workers.engine.kandinsky6.codec import encode_picture, sound_length
from workers.engine.kandinsky6.text import PromptEmbeds
from workers.engine.load import Parts, clone_scheduler
from workers.engine.request import SegmentRequest


@dataclass(frozen=True, eq=False)
class Start:
    """Where a loop starts: `picture` [1, T, h, w, C] with the known first frame behind it where there is one.

    `first` [1, h, w, C] is that frame, and `sound` [1, L, c] the start of the sound.
    """

    picture: torch.Tensor
    first: torch.Tensor | None
    sound: torch.Tensor


def start(parts: Parts, request: SegmentRequest, shape: Shape, first: torch.Tensor | None) -> Start:
    """Draw the noise of a render, in the pipeline's order: the first frame's posterior, the picture, the sound.

    `first` is the known first frame, [1, 3, 1, H, W] in -1..1. The noise comes from a CPU generator, so that a seed
    gives the same film on every device, and in the transformer's dtype, as in diffusers.
    """
    device, dtype = parts.device, parts.transformer.dtype
    generator = torch.Generator("cpu").manual_seed(request.seed)
    known = None
    if first is not None:
        with parts.on_device("vae") as vae:
            known = encode_picture(vae, first, generator)[:, :, 0].permute(0, 2, 3, 1).to(device, dtype)
    _, channels, frames, high, wide = shape.latent
    picture = randn_tensor((1, frames, high, wide, channels), generator=generator, device=device, dtype=dtype)
    size = (1, sound_length(parts, frames, request.fps), parts.transformer.config.in_audio_dim)
    waves = randn_tensor(size, generator=generator, device=device, dtype=dtype)
    if known is not None:
        picture = torch.cat([picture, known[:, None]], dim=1)
    return Start(picture, known, waves)


class Kandinsky6Step:
    """The transformer's call at each step of one render."""

    def __init__(
        self, parts: Parts, begin: Start, prompt: PromptEmbeds, negative: PromptEmbeds | None, guidance: float
    ) -> None:
        self.parts = parts
        self.begin = begin
        self.prompt = prompt
        self.negative = negative
        self.guidance = guidance

    def plan(self, steps: int, flow_shift: float | None, preview_steps: int) -> JointPlan:
        """Return the loop's inputs, with schedulers of its own."""
        scheduler = clone_scheduler(self.parts, flow_shift)
        scheduler.set_timesteps(steps, device=self.parts.device)
        return JointPlan(
            picture=self.begin.picture,
            sound=self.begin.sound,
            scheduler=scheduler,
            sound_scheduler=deepcopy(scheduler),
            velocities=self.velocities,
            bind=self.bind,
            clean_picture=self.clean_picture,
            preview_steps=preview_steps,
        )

    def bind(self, picture: torch.Tensor) -> torch.Tensor:
        """Put the known first frame back to the end of the latents, where the scheduler's last step has moved it."""
        if self.begin.first is None:
            return picture
        return torch.cat([picture[:, :-1], self.begin.first[:, None]], dim=1)

    def velocities(
        self, timestep: torch.Tensor, picture: torch.Tensor, sound: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the velocities of picture and sound, with classifier-free guidance."""
        inputs = {
            "hidden_states": self._inputs(picture),
            "audio_hidden_states": sound,
            "timestep": timestep.expand(1),
            **self._positions(picture),
        }
        with self.parts.on_device("transformer") as transformer:
            wanted = _forward(transformer, "cond", self.prompt, inputs)
            if self.negative is None:
                return wanted
            unwanted = _forward(transformer, "uncond", self.negative, inputs)
        picture_velocity, sound_velocity = (
            no + self.guidance * (yes - no) for yes, no in zip(wanted, unwanted, strict=True)
        )
        return picture_velocity, sound_velocity

    def clean_picture(self, picture: torch.Tensor, velocity: torch.Tensor, sigma: float) -> torch.Tensor:
        """Estimate the finished picture, [1, C, T, h, w].

        Flow matching: x_t = (1 - s) x_0 + s noise and v = noise - x_0, hence x_0 = x_t - s v. A distilled model
        predicts several velocities per channel; the first is the one at the end of the step.
        """
        count = picture.shape[1] - (self.begin.first is not None)
        clean = picture - sigma * velocity[..., : picture.shape[-1]]
        return clean[:, :count].permute(0, 4, 1, 2, 3)

    def _inputs(self, picture: torch.Tensor) -> torch.Tensor:
        """Return the transformer's input: latents, channels that are always zero, and the mask of the known frame."""
        if not self.parts.transformer.config.visual_cond:
            return picture
        mask = torch.zeros((*picture.shape[:-1], 1), dtype=picture.dtype, device=picture.device)
        if self.begin.first is not None:
            mask[:, -1] = 1
        return torch.cat([picture, torch.zeros_like(picture), mask], dim=-1)

    def _positions(self, picture: torch.Tensor) -> dict[str, Any]:
        """Return the positions and types of the tokens where the known frame stands behind the others.

        It is of type 1 and has the first frame's place in time.
        """
        if self.begin.first is None:
            return {"visual_rope_pos": None, "visual_token_type_ids": None}
        device, frames = picture.device, picture.shape[1] - 1
        time, high, wide = self.parts.patch
        kinds = torch.zeros((1, frames + 1), dtype=torch.long, device=device)
        kinds[:, -1] = 1
        moments = torch.cat(
            [torch.arange(frames // time, device=device), torch.zeros(1, dtype=torch.long, device=device)]
        )
        rows = torch.arange(picture.shape[2] // high, device=device)
        columns = torch.arange(picture.shape[3] // wide, device=device)
        return {"visual_rope_pos": (moments, rows, columns), "visual_token_type_ids": kinds}


def is_distilled(parts: Parts) -> bool:
    """Whether the weights were distilled: their scheduler integrates a policy, and guidance is built in."""
    return isinstance(parts.scheduler, PiflowScheduler)


def _forward(
    transformer: Any, name: str, embeds: PromptEmbeds, inputs: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the transformer on one text; return what it predicts for the picture and for the sound."""
    with transformer.cache_context(name):
        output: tuple[torch.Tensor, torch.Tensor] = transformer(
            encoder_hidden_states=embeds.tokens,
            pooled_projections=embeds.pooled,
            encoder_attention_mask=embeds.mask,
            return_dict=False,
            **inputs,
        )
    return output
