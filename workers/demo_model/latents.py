"""Encoded clips for the transformer's training: made once in shards, kept in memory, drawn in batches of one shape."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from workers.demo_model.codec import encode_moments, statistics
from workers.demo_model.config import FRAMES_MAX, NATIVE_SIZES
from workers.demo_model.paint import paint
from workers.demo_model.scenes import TWO_OBJECTS_TRAINED, draw_scene

KINDS = {"fresh": 0.62, "window": 0.27, "held": 0.11}
"""Shares of clips: motions from their beginning; windows from anywhere in a motion; clips whose last frame is held."""

RATIOS = {"16:9": 0.5, "9:16": 0.14, "1:1": 0.14, "4:3": 0.11, "3:4": 0.11}
SHARD = 32
HELD_FRAMES = (17, 25, 41)
HOLD = 4
"""A held clip's last frames are all alike, so that its last latent frame shows one picture: the given last frame."""


@dataclass(frozen=True)
class Shard:
    """Clips of one shape.

    latents [N, 16, f, h, w] as the transformer sees them; masks [N, f, 2, H/2, W/2], 0..1, at the first and last frame
    of each latent frame; goal [N, 16, h, w], the last picture encoded as a still clip (held clips only).
    """

    kind: str
    ratio: str
    captions: tuple[str, ...]
    latents: Tensor
    masks: Tensor
    goal: Tensor | None


@torch.no_grad()
def make_shard(
    codec: AutoencoderKLWan, rng: np.random.Generator, count: int = SHARD
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Draw, paint and encode the clips of one shard; returns tensors and metadata for a safetensors file."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    ratio = str(rng.choice(list(RATIOS), p=list(RATIOS.values())))
    width, height = NATIVE_SIZES[ratio]
    frames = int(rng.choice(HELD_FRAMES, p=(0.2, 0.2, 0.6))) if kind == "held" else FRAMES_MAX
    mean, std = statistics(codec)
    captions: list[str] = []
    latents, masks, goals = [], [], []
    for _ in range(count // 8):
        clips = []
        for _ in range(8):
            scene = draw_scene(rng, two=TWO_OBJECTS_TRAINED)
            late = kind != "fresh"
            start = float(rng.uniform(0.0, 4.5)) if late and rng.random() < 0.7 else 0.0
            hold = HOLD if kind == "held" else 0
            pixels, mask = paint(
                scene, width, height, frames, rng, start=start, anywhere=late and rng.random() < 0.6, hold=hold
            )
            clips.append(torch.from_numpy(pixels))
            masks.append(_small_masks(torch.from_numpy(mask)))
            captions.append(scene.caption())
        video = torch.stack(clips).to(codec.device).permute(0, 4, 1, 2, 3) / 127.5 - 1  # [8, 3, F, H, W]
        with torch.autocast(video.device.type, torch.bfloat16):
            latents.append((encode_moments(codec, video)[0].float() - mean) / std)
            if kind == "held":
                still = video[:, :, -1:].expand(-1, -1, 1 + HOLD, -1, -1)
                goals.append(((encode_moments(codec, still)[0].float() - mean) / std)[:, :, -1])
    tensors = {"latents": torch.cat(latents).half().cpu(), "masks": torch.stack(masks)}
    if goals:
        tensors["goal"] = torch.cat(goals).half().cpu()
    return tensors, {"kind": kind, "ratio": ratio, "captions": json.dumps(captions)}


def _small_masks(mask: Tensor) -> Tensor:
    """Masks [F, H, W] at half size, at the first and last frame of each latent frame, as bytes [f, 2, H/2, W/2]."""
    small = functional.avg_pool2d(mask[None], 2)[0]
    starts = torch.cat([torch.tensor([0]), torch.arange(1, len(mask), 4)])
    ends = torch.arange(0, len(mask), 4)
    return (torch.stack([small[starts], small[ends]], dim=1) * 255).round().byte()


def write_shards(codec: AutoencoderKLWan, folder: Path, first: int, last: int, seed: int) -> Iterator[int]:
    """Write shards first..last-1 that are not there yet, one file each; yields each number when it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, last):
        path = folder / f"{number:04d}.safetensors"
        if not path.exists():
            tensors, metadata = make_shard(codec, np.random.default_rng([seed, number]))
            partial = path.with_suffix(".partial")
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata)
            partial.replace(path)
        yield number


@dataclass
class Library:
    """All shards of a folder, in memory; `refresh` reads those that were added since."""

    folder: Path
    shards: dict[str, Shard] = field(default_factory=dict)

    def refresh(self) -> None:
        """Read the shards that are not in memory yet."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in self.shards:
                with safe_open(path, "pt") as file:
                    about = file.metadata()
                    goal = file.get_tensor("goal") if "goal" in file.keys() else None  # noqa: SIM118 (safe_open is no mapping)
                    self.shards[path.name] = Shard(
                        about["kind"],
                        about["ratio"],
                        tuple(json.loads(about["captions"])),
                        file.get_tensor("latents"),
                        file.get_tensor("masks"),
                        goal,
                    )

    def names(self, kinds: tuple[str, ...], ratio: str, frames: int | None = None) -> list[str]:
        """Names of the shards of these kinds and this ratio (and of so many latent frames), in order."""
        return [
            name
            for name, shard in sorted(self.shards.items())
            if shard.kind in kinds and shard.ratio == ratio and (frames is None or shard.latents.shape[2] == frames)
        ]
