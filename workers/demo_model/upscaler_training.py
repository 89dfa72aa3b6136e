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

from workers.demo_model.components import WEIGHTS, load
from workers.demo_model.path_training import train_paths
from workers.demo_model.training_loop import TrainingLoop
from workers.demo_model.upscaler_clips import PACE, SCALE, ClipPool
from workers.engine.shape_drawing import REACH
from workers.engine.upscaler import FILE, Upscaler, save_upscaler

LEARNING_RATE = 4e-3
FIRST_SHARDS, STEPS_PER_SHARD, SHARDS_MAX = 16, 150, 96
BATCHES = ((16, 32), (12, 48), (8, 64))
"""Batch and side in native pixels of the windows, small ones first."""


def outline_loss(drawn: Tensor, wanted: Tensor) -> Tensor:
    """L1 of distances up to 4 pixels: its best guess of an uncertain outline is a sharp one. Near ones count fivefold.

    The differences between neighbouring distances count half: they say where an edge points.
    """
    wanted = wanted.clamp(-REACH, REACH)
    weight = 1 + 4 * (wanted.abs() < 2).float()
    loss = (weight * (drawn - wanted).abs()).mean()
    for axis in (-1, -2):
        loss = loss + 0.5 * functional.l1_loss(drawn.diff(dim=axis), wanted.diff(dim=axis))
    return loss


@torch.no_grad()
def measure(upscaler: Upscaler, pool: ClipPool) -> dict[str, float]:
    """Mean errors of distances near outlines, in native pixels: at a frame, between two, and at a clip's end."""
    windows, missing, wanted = pool.batch(96, 48, np.random.default_rng(99))
    error = (upscaler.outlines(windows, missing) - wanted).abs()
    near, last = wanted.abs() < 1, missing[:, 0] > 0
    return {
        "at": round(float(error[:, 0][near[:, 0]].mean()), 4),
        "between": round(float(error[:, 1][near[:, 1]].mean()), 4),
        "beyond": round(float(error[last][:, 1][near[last][:, 1]].mean()), 4),
    }


def train(folder: Path, minutes: float, seed: int, weights: Path) -> Upscaler:
    """Train for so many processor minutes, earlier runs counted in; return the averaged network."""
    torch.manual_seed(seed)
    pipeline = load()
    for part in (pipeline.vae, pipeline.transformer, pipeline.text_encoder):
        part.requires_grad_(False)
    pool, held_out = ClipPool(folder / "clips", seed), ClipPool(folder / "held", seed + 1000)
    for _ in range(4):
        held_out.grow(pipeline)
    upscaler = Upscaler(SCALE, PACE).to(memory_format=torch.channels_last)
    upscaler.path.requires_grad_(False)  # It is trained without pictures, at the end.
    loop = TrainingLoop(
        modules={"upscaler": upscaler},
        checkpoint=folder / "upscaler.pt",
        minutes=minutes,
        learning_rate=LEARNING_RATE,
        ema_decay=0.998,
        outer=[upscaler.conv_in.weight, upscaler.conv_out.weight],
    )

    def loss_of(done: float, step: int) -> Tensor:
        while len(pool.shards) < min(SHARDS_MAX, FIRST_SHARDS + step // STEPS_PER_SHARD):
            pool.grow(pipeline)
        rng = np.random.default_rng([seed, step])
        shape = BATCHES[0] if done < 0.3 else BATCHES[int(rng.choice(3, p=(0.2, 0.5, 0.3)))]
        windows, missing, wanted = pool.batch(*shape, rng)
        return outline_loss(upscaler.outlines(windows, missing), wanted)

    def report(done: float, figures: dict[str, float]) -> None:
        line = {"done": round(done, 4), "spent": round(process_time()), "shards": len(pool.shards), **figures}
        with (folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        average = Upscaler(SCALE, PACE)
        average.load_state_dict(loop.ema.weights_of("upscaler"))
        save_upscaler(average, folder / "model.safetensors")

    loop.run(loss_of, lambda: measure(upscaler, held_out), report)
    path_error = train_paths(upscaler.path, seed)
    save_upscaler(upscaler, weights)
    report(1.0, {"step": loop.step, "path": path_error, **measure(upscaler, held_out)})
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
