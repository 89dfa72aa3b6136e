"""Clips to train the sound head on: latents, and the controls that belong to them, made once in shards."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.demo_model.config import FRAMES_MAX, NATIVE_SIZES
from workers.demo_model.object_tracks import seen_tracks
from workers.demo_model.sample import decode, encode, generate_latents
from workers.demo_model.scenes import draw_scene
from workers.demo_model.sound_evaluation import paint_with_tracks
from workers.demo_model.sound_head import targets_of
from workers.demo_model.sound_law import Track, controls_of

SHARD = 32
BATCH = 8
RATIOS = {"16:9": 0.5, "9:16": 0.14, "1:1": 0.14, "4:3": 0.11, "3:4": 0.11}
LATE = 0.45
"""Share of painted clips that begin in the middle of a motion, as chained segments and continued videos do."""


@dataclass(frozen=True)
class Shard:
    """Clips of one size: latents [N, 16, 11, h, w], knobs [N, 2, 4, n], shapes [N, 2] (-1: no such voice)."""

    latents: Tensor
    knobs: Tensor
    shapes: Tensor


def _targets(every: list[list[Track]]) -> dict[str, Tensor]:
    """Knobs and shapes of a batch of clips."""
    pairs = [targets_of(controls_of(tracks, FRAMES_MAX)) for tracks in every]
    return {
        "knobs": torch.from_numpy(np.stack([knobs for knobs, _ in pairs])).half(),
        "shapes": torch.from_numpy(np.stack([shapes for _, shapes in pairs])),
    }


def painted_batch(pipeline: WanPipeline, rng: np.random.Generator, ratio: str) -> dict[str, Tensor]:
    """Clips of the world, encoded by the codec, with what the world knows of them."""
    clips, every = [], []
    for _ in range(BATCH):
        scene = draw_scene(rng, two=0.4)
        late = rng.random() < LATE
        start = float(rng.uniform(0.0, 4.5)) if late else 0.0
        clip, tracks = paint_with_tracks(
            scene, *NATIVE_SIZES[ratio], FRAMES_MAX, rng, start=start, anywhere=late and rng.random() < 0.6
        )
        clips.append(clip)
        every.append(tracks)
    return {"latents": encode(pipeline, np.stack(clips)).half(), **_targets(every)}


def sampled_batch(pipeline: WanPipeline, rng: np.random.Generator, ratio: str) -> dict[str, Tensor]:
    """Clips of the picture model with what is seen in them, which is not always what was meant."""
    scenes = [draw_scene(rng, two=0.3) for _ in range(BATCH)]
    seeds = [int(seed) for seed in rng.integers(1 << 40, size=BATCH)]
    words = [scene.caption() for scene in scenes]
    latents = generate_latents(pipeline, words, *NATIVE_SIZES[ratio], FRAMES_MAX, seeds)
    every = [seen_tracks(clip) for clip in decode(pipeline, latents)]
    return {"latents": latents.half(), **_targets(every)}


def write_shards(pipeline: WanPipeline, folder: Path, kind: str, count: int, seed: int) -> Iterator[int]:
    """Write the shards of a kind (`painted`, `sampled`) that are not there yet; yields each number when it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    make = {"painted": painted_batch, "sampled": sampled_batch}[kind]
    for number in range(count):
        path = folder / f"{kind}-{number:04d}.safetensors"
        if not path.exists():
            rng = np.random.default_rng([seed, number, len(kind), ord(kind[0])])
            ratio = str(rng.choice(list(RATIOS), p=list(RATIOS.values())))
            batches = [make(pipeline, rng, ratio) for _ in range(SHARD // BATCH)]
            partial = path.with_suffix(".partial")
            save_file({name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}, partial)
            partial.replace(path)
        yield number


def read_shards(folder: Path) -> dict[str, Shard]:
    """All shards of a folder by file name, in memory."""
    return {path.stem: Shard(**load_file(path)) for path in sorted(folder.glob("*.safetensors"))}
