"""The denoising loop of models that make picture and sound together: two latents, two schedulers, one checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from workers.engine.checkpoint import CheckpointFile, Progress
from workers.engine.meter import Meter
from workers.engine.request import EngineControl, Frames


class Velocities(Protocol):
    """One step of a family's transformer, with its guidance."""

    def __call__(
        self, timestep: torch.Tensor, picture: torch.Tensor, sound: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the velocities of the picture and of the sound."""


@dataclass(frozen=True, eq=False)
class JointPlan:
    """The inputs of one loop. Both latents have the family's own layout.

    The sound is always made along, asked for or not: each step of the picture hears it, so without it a seed would
    give another picture. Each modality has a scheduler of its own, since a scheduler counts its steps. `bind` puts
    known parts of the picture back before each step. `clean_picture` estimates the finished picture from latents,
    velocity and sigma, as [1, C, T, h, w].
    """

    picture: torch.Tensor
    sound: torch.Tensor
    scheduler: Any
    sound_scheduler: Any
    velocities: Velocities
    bind: Callable[[torch.Tensor], torch.Tensor]
    clean_picture: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
    preview_steps: int = 1


@torch.no_grad()
def denoise_jointly(
    plan: JointPlan,
    control: EngineControl,
    meter: Meter,
    preview: Callable[[torch.Tensor], Frames] | None = None,
    checkpoint: CheckpointFile | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the denoised latents of picture and sound.

    The stop flag is read before each step, and a step is complete for both before it is reported, so that progress is
    true and a cancel takes effect within one step. A checkpoint that fits continues where it ended.
    """
    picture, sound, first = plan.picture, plan.sound, 0
    if checkpoint is not None:
        progress = checkpoint.resume(plan.scheduler, picture.device, plan.sound_scheduler)
        if progress is not None and progress.sound is not None:
            first, picture, sound = progress.step, progress.latents, progress.sound
            meter.resumed_from_step = first
    timesteps = plan.scheduler.timesteps
    total = len(timesteps)
    for index in range(first, total):
        control.check()
        picture, sound, small = _step(plan, index, picture, sound, preview)
        meter.steps += 1
        if picture.device.type == "cuda":
            torch.cuda.current_stream(picture.device).synchronize()
        control.on_step(index + 1, total, small)
        if checkpoint is not None:
            state = Progress(index + 1, picture, sound)
            checkpoint.offer(state, plan.scheduler, sound_scheduler=plan.sound_scheduler, is_last=control.cancelled())
    return picture, sound


def _step(
    plan: JointPlan,
    index: int,
    picture: torch.Tensor,
    sound: torch.Tensor,
    preview: Callable[[torch.Tensor], Frames] | None,
) -> tuple[torch.Tensor, torch.Tensor, Frames | None]:
    """Do one step of both; return their next latents and a preview where one is due."""
    timestep = plan.scheduler.timesteps[index]
    sigma = float(plan.scheduler.sigmas[index])
    picture = plan.bind(picture)
    velocity, sound_velocity = plan.velocities(timestep, picture, sound)
    small = None
    if preview is not None and plan.preview_steps and (index + 1) % plan.preview_steps == 0:
        small = preview(plan.clean_picture(picture, velocity, sigma))
    picture = plan.scheduler.step(velocity, timestep, picture, return_dict=False)[0]
    sound = plan.sound_scheduler.step(sound_velocity, timestep, sound, return_dict=False)[0]
    return picture, sound, small
