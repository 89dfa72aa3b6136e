"""Our own denoising loop over diffusers' transformers and schedulers, with progress, cancel and resume."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from workers.engine.checkpoint import CheckpointFile, Progress
from workers.engine.conditioning import Conditioning
from workers.engine.load import Parts
from workers.engine.meter import Meter
from workers.engine.request import EngineControl, Frames

Preview = Callable[[torch.Tensor], Frames]


@dataclass(frozen=True, eq=False)
class Plan:
    """The inputs of one denoising loop. `start` is the first step index (v2v skips the noisiest ones).

    `prompt` and `negative` are embeddings [1, L, d]; `negative` is None where guidance does not exceed 1.
    """

    conditioning: Conditioning
    scheduler: Any
    timesteps: torch.Tensor
    prompt: torch.Tensor
    negative: torch.Tensor | None
    guidance: float
    guidance_2: float
    cfg_batch: bool = False
    uniform_timestep: bool = False
    preview_steps: int = 1


class DenoiseStage:
    """Runs the loop of one model: the expert and its inputs at each step."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @torch.no_grad()
    def run(
        self,
        plan: Plan,
        control: EngineControl,
        meter: Meter,
        preview: Preview | None = None,
        checkpoint: CheckpointFile | None = None,
    ) -> torch.Tensor:
        """Return the denoised latents, float32 [1, C, T, h, w].

        The stop flag is read before each step, and a step is complete before it is reported, so that progress is true
        and a cancel takes effect within one step. A checkpoint that fits continues where it ended.
        """
        latents = plan.conditioning.latents
        moments = plan.timesteps.cpu().tolist()
        first = 0
        if checkpoint is not None and (progress := checkpoint.resume(plan.scheduler, latents.device)) is not None:
            first, latents = progress.step, progress.latents
            meter.resumed_from_step = first
        total = len(moments)
        for index in range(first, total):
            control.check()
            latents, picture = self._step(plan, index, moments[index], latents, preview)
            meter.steps += 1
            if latents.device.type == "cuda":
                torch.cuda.current_stream(latents.device).synchronize()
            control.on_step(index + 1, total, picture)
            if checkpoint is not None:
                checkpoint.offer(Progress(index + 1, latents), plan.scheduler, is_last=control.cancelled())
        if plan.conditioning.mask is not None and plan.conditioning.condition is not None:
            mask = plan.conditioning.mask
            latents = (1 - mask) * plan.conditioning.condition + mask * latents
        return latents

    def _step(
        self, plan: Plan, index: int, moment: float, latents: torch.Tensor, preview: Preview | None
    ) -> tuple[torch.Tensor, Frames | None]:
        """Do one step at timestep `moment`; return the next latents and a preview where one is due."""
        timestep = plan.timesteps[index]
        model, name, guidance = self._expert(plan, moment)
        hidden, per_token = self._inputs(plan, latents, timestep)
        with self.parts.on_device(name):
            velocity = self._guided(plan, model, index, hidden, per_token, guidance)
        picture = None
        if preview is not None and plan.preview_steps and (index + 1) % plan.preview_steps == 0:
            # Flow matching: x_t = (1 - s) x_0 + s noise and v = noise - x_0, hence x_0 = x_t - s v.
            clean = latents - float(plan.scheduler.sigmas[_position(plan, index)]) * velocity
            picture = preview(clean)
        return plan.scheduler.step(velocity, timestep, latents, return_dict=False)[0], picture

    def _expert(self, plan: Plan, moment: float) -> tuple[Any, str, float]:
        """Return the transformer for this timestep, its name and its guidance."""
        if self.parts.boundary_ratio is None:
            return self.parts.transformer, "transformer", plan.guidance
        boundary = self.parts.boundary_ratio * plan.scheduler.config.num_train_timesteps
        if moment >= boundary:
            return self.parts.transformer, "transformer", plan.guidance
        return self.parts.transformer_2, "transformer_2", plan.guidance_2

    def _inputs(self, plan: Plan, latents: torch.Tensor, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the transformer's input [1, C', T, h, w] and its timesteps, [1] or one per token [1, tokens]."""
        dtype = self.parts.transformer.dtype
        mask, condition = plan.conditioning.mask, plan.conditioning.condition
        if self.parts.expand_timesteps:
            if mask is None and plan.uniform_timestep:
                return latents.to(dtype), timestep.expand(latents.shape[0])
            if mask is None:
                mask = torch.ones((1, 1, *latents.shape[2:]), dtype=torch.float32, device=latents.device)
                hidden = latents
            else:
                hidden = (1 - mask) * condition + mask * latents
            _, high, wide = self.parts.patch
            per_token = (mask[0][0][:, ::high, ::wide] * timestep).flatten()
            return hidden.to(dtype), per_token.unsqueeze(0)
        if condition is not None:
            latents = torch.cat([latents, condition], dim=1)
        return latents.to(dtype), timestep.expand(latents.shape[0])

    def _guided(
        self, plan: Plan, model: Any, index: int, hidden: torch.Tensor, timestep: torch.Tensor, guidance: float
    ) -> torch.Tensor:
        """Return the velocity with classifier-free guidance (arXiv 2207.12598, equation 6)."""
        images = plan.conditioning.image_embeds
        where = {
            "step_index": index,
            "sigma": float(plan.scheduler.sigmas[_position(plan, index)]),
            "num_inference_steps": len(plan.timesteps),
        }

        def velocity(name: str, prompts: torch.Tensor) -> torch.Tensor:
            batch = prompts.shape[0]
            with model.cache_context(name, **where):
                output: torch.Tensor = model(
                    hidden_states=hidden.expand(batch, -1, -1, -1, -1),
                    timestep=timestep.expand(batch, *timestep.shape[1:]),
                    encoder_hidden_states=prompts,
                    encoder_hidden_states_image=None if images is None else images.repeat(batch, 1, 1),
                    return_dict=False,
                )[0]
            return output

        if plan.negative is None:
            return velocity("cond", plan.prompt)
        if plan.cfg_batch:
            conditional, unconditional = velocity("cond", torch.cat([plan.prompt, plan.negative])).chunk(2)
        else:
            conditional, unconditional = velocity("cond", plan.prompt), velocity("uncond", plan.negative)
        return unconditional + guidance * (conditional - unconditional)


def _position(plan: Plan, index: int) -> int:
    """Return the index of the loop's step in the scheduler's full list of sigmas (v2v begins in its middle)."""
    return len(plan.scheduler.timesteps) - len(plan.timesteps) + index
