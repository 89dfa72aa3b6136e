"""Train the upscaler: `python -m workers.demo_model.upscaler_training --folder FOLDER --minutes 50`.

The codec and the transformer stay as they are. Interrupted, the same command goes on where it was.
"""

import argparse
import json
import sys
from pathlib import Path
from time import process_time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from workers.demo_model.course import Course
from workers.demo_model.parts import WEIGHTS, load
from workers.demo_model.upscaler_clips import PACE, SCALE, Pool
from workers.engine.upscaler import FILE, Upscaler, save_upscaler

LEARNING_RATE = 1.5e-3
FIRST_SHARDS, STEPS_PER_SHARD, SHARDS_MAX = 8, 50, 96
BATCHES = ((16, 32), (8, 48), (5, 64))
"""Batch and side in native pixels of the windows, small ones first."""


def upscaling_loss(drawn: Tensor, goal: Tensor) -> Tensor:
    """L1, whose best guess of an uncertain edge is a sharp one, and half the L1 of neighbouring pixels' differences.

    The step between the two frames counts too, so that nothing flickers.
    """
    loss = functional.l1_loss(drawn, goal)
    for axis in (-1, -2):
        loss = loss + 0.5 * functional.l1_loss(drawn.diff(dim=axis), goal.diff(dim=axis))
    return loss + 0.25 * functional.l1_loss(drawn[:, 1] - drawn[:, 0], goal[:, 1] - goal[:, 0])


@torch.no_grad()
def measure(upscaler: Upscaler, pool: Pool) -> dict[str, float]:
    """PSNR in dB of both frames of held windows, and that of enlarging bilinearly."""
    windows, missing, goals = pool.batch(48, 48, np.random.default_rng(99))
    drawn = upscaler(windows, missing).clamp(-1, 1)
    plain = functional.interpolate(windows[:, 1], scale_factor=float(SCALE), mode="bilinear")

    def psnr(made: Tensor, wanted: Tensor) -> float:
        return round(float(-10 * torch.log10((made - wanted).square().mean() / 4)), 2)

    return {
        "psnr_even": psnr(drawn[:, 0], goals[:, 0]),
        "psnr_between": psnr(drawn[:, 1], goals[:, 1]),
        "psnr_bilinear": psnr(plain, goals[:, 0]),
        "l1": round(float((drawn - goals).abs().mean()), 5),
    }


def train(folder: Path, minutes: float, seed: int, weights: Path) -> Upscaler:
    """Train for so many processor minutes, earlier runs counted in; return the averaged network."""
    torch.manual_seed(seed)
    pipeline = load()
    for part in (pipeline.vae, pipeline.transformer, pipeline.text_encoder):
        part.requires_grad_(False)
    pool, held = Pool(folder / "clips", seed), Pool(folder / "held", seed + 1000)
    for _ in range(4):
        held.grow(pipeline)
    upscaler = Upscaler(SCALE, PACE).to(memory_format=torch.channels_last)
    course = Course(
        modules={"upscaler": upscaler},
        checkpoint=folder / "upscaler.pt",
        minutes=minutes,
        learning_rate=LEARNING_RATE,
        ema_decay=0.998,
        outer=[upscaler.conv_in.weight, upscaler.conv_out.weight, upscaler.color.weight],
    )

    def loss_of(done: float, step: int) -> Tensor:
        while len(pool.shards) < min(SHARDS_MAX, FIRST_SHARDS + step // STEPS_PER_SHARD):
            pool.grow(pipeline)
        rng = np.random.default_rng([seed, step])
        shape = BATCHES[0] if done < 0.3 else BATCHES[int(rng.choice(3, p=(0.2, 0.5, 0.3)))]
        windows, missing, goals = pool.batch(*shape, rng)
        return upscaling_loss(upscaler(windows, missing), goals)

    def report(done: float, figures: dict[str, float]) -> None:
        line = {"done": round(done, 4), "spent": round(process_time()), "shards": len(pool.shards), **figures}
        with (folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        average = Upscaler(SCALE, PACE)
        average.load_state_dict(course.ema.weights_of("upscaler"))
        save_upscaler(average, folder / "model.safetensors")

    course.run(loss_of, lambda: measure(upscaler, held), report)
    save_upscaler(upscaler, weights)
    report(1.0, {"step": course.step, **measure(upscaler, held)})
    return upscaler


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="clips, checkpoint and log")
    parser.add_argument("--minutes", type=float, default=50.0, help="processor minutes of the whole course")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weights", type=Path, default=WEIGHTS / FILE, help="where the trained weights go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    train(options.folder, options.minutes, options.seed, options.weights)
    sys.stdout.write(f"{options.weights}\n")


if __name__ == "__main__":
    main()
