"""Pairs for the upscaler's training: what the demo model decodes, and the same scene painted large at twice the pace.

A third of the clips went through the codec, some of them with noise on their latents. Half were noised further and
denoised by the transformer, so that they have the faults of generated clips while the scene is still known. The rest
are blurred noise that stands still, so that customers' own pictures are not redrawn as shapes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from app.catalog.demo_words import BACKGROUNDS, COLORS, Scene
from workers.demo_model.components import embed, token_ids
from workers.demo_model.config import FPS, FRAMES_MAX, NATIVE_SIZES, pixel_aspect
from workers.demo_model.latents import RATIOS
from workers.demo_model.paint import COLOR_JITTER, EDGE, signed_distance
from workers.demo_model.sample import decode, encode
from workers.demo_model.scenes import clip_times, draw_scene, paths
from workers.engine.shape_drawing import AFTER, BEFORE, OUTLINE_SCALE, REACH, WINDOW, coverage_of

KINDS = {"generated": 0.55, "decoded": 0.38, "picture": 0.07}
SCALE, PACE = 4, 2
"""Drawn pixels per native pixel along one side, and drawn frames per native frame; the catalogue says the same."""

STARTS = (4, 5, 6, 7)
"""Steps of eight from which clips are denoised again: the fewer are left, the truer they stay to their scene."""

SHARD = 8


Placed = tuple[str, np.ndarray, np.ndarray, np.ndarray]
"""An object's shape, colour [3], centres [P, 2] and radii [P]."""


@dataclass(frozen=True)
class Painting:
    """A scene as it is painted once, so that any part of it can be painted again at any size and any of its times.

    Colours are levels; centres and radii are in native display pixels, at twice the native frame rate.
    """

    width: int
    height: int
    back: np.ndarray  # [3]
    things: tuple[Placed, ...]

    @classmethod
    def of(
        cls, scene: Scene, width: int, height: int, frames: int, seed: list[int], start: float, anywhere: bool
    ) -> "Painting":
        """Place a scene's objects at the native frames' times and half-way between them."""
        rng = np.random.default_rng(seed)
        times = clip_times(PACE * (frames - 1) + 1, start, FPS * PACE)
        back = np.array(BACKGROUNDS[scene.background], np.float32) + rng.uniform(-COLOR_JITTER, COLOR_JITTER, 3)
        ways = paths(scene, width, height, times, rng, anywhere=anywhere)
        things = tuple(
            (
                thing.shape,
                np.array(COLORS[thing.color], np.float32) + rng.uniform(-COLOR_JITTER, COLOR_JITTER, 3),
                way.center,
                way.radius,
            )
            for thing, way in zip(scene.things, ways, strict=True)
        )
        return cls(width, height, back, things)

    def paint(self, moments: np.ndarray, scale: int = 1) -> np.ndarray:
        """Pixels float32 in 0..255 [F, scale H, scale W, 3] at moments, which count half native frames."""
        x, y = self._grid(scale, 0, 0, self.width, self.height)
        pixels = np.empty((len(moments), len(y), len(x), 3), np.float32)
        pixels[:] = self.back
        for thing in self.things:
            cover = np.clip(0.5 - self._distance(thing, moments, x, y) * (scale / EDGE), 0.0, 1.0)
            pixels += cover[..., None] * (thing[1].astype(np.float32) - pixels)
        return np.clip(pixels, 0.0, 255.0)

    def outlines(self, moments: np.ndarray, scale: int, left: int, top: int, side: int) -> np.ndarray:
        """Signed distances [F, scale side, scale side] in native pixels, in a square window, to the nearest outline."""
        x, y = self._grid(scale, left, top, side, side)
        return np.minimum.reduce([self._distance(thing, moments, x, y) for thing in self.things])

    def _grid(self, scale: int, left: int, top: int, wide: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """Centres of pixels in native display pixels, x [scale wide] and y [scale high]."""
        x = (np.arange(wide * scale, dtype=np.float32) + 0.5) / scale + left
        y = (np.arange(high * scale, dtype=np.float32) + 0.5) / scale + top
        return x * np.float32(pixel_aspect(self.width, self.height)), y

    @staticmethod
    def _distance(thing: Placed, moments: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Signed distances [F, H, W] to one object's outline."""
        shape, _, center, radius = thing
        at = center[moments].astype(np.float32)
        dx, dy = x[None, None, :] - at[:, 0, None, None], y[None, :, None] - at[:, 1, None, None]
        return signed_distance(shape, dx, dy, radius[moments].astype(np.float32)[:, None, None])

    def focus(self, moment: int, rng: np.random.Generator) -> tuple[float, float]:
        """A point on or near an object's outline, x and y in native pixels."""
        _, _, center, radius = self.things[int(rng.integers(len(self.things)))]
        angle = rng.uniform(0, 2 * np.pi)
        x, y = center[moment] + radius[moment] * rng.uniform(0.3, 1.3) * np.array([np.cos(angle), np.sin(angle)])
        return float(x) / pixel_aspect(self.width, self.height), float(y)


def draw_painting(seed: list[int], ratio: str, *, generated: bool) -> tuple[str, Painting]:
    """A caption and its painting; clips that are generated begin as the transformer's own do."""
    rng = np.random.default_rng([*seed, 1])
    scene = draw_scene(rng, held_out=None, two=0.3)
    width, height = NATIVE_SIZES[ratio]
    start = 0.0 if generated or rng.random() < 0.5 else float(rng.uniform(0, 4.5))
    anywhere = not generated and bool(rng.random() < 0.6)
    return scene.caption(), Painting.of(scene, width, height, FRAMES_MAX, [*seed, 2], start, anywhere)


@torch.no_grad()
def make_shard(pipeline: WanPipeline, seed: int, number: int) -> tuple[Tensor, dict[str, str]]:
    """Decode one shard's clips, uint8 [8, F, H, W, 3]; with the words that let `Pool` paint their scenes again."""
    rng = np.random.default_rng([seed, number])
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    ratio = str(rng.choice(list(RATIOS), p=list(RATIOS.values())))
    words = {"kind": kind, "ratio": ratio, "seed": json.dumps([seed, number])}
    if kind == "picture":
        return torch.zeros(0), words
    drawn = [draw_painting([seed, number, row], ratio, generated=kind == "generated") for row in range(SHARD)]
    moments = np.arange(0, PACE * FRAMES_MAX - 1, PACE)
    clips = np.stack([painting.paint(moments) for _, painting in drawn]).round().astype(np.uint8)
    latents = encode(pipeline, clips)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    if kind == "generated":
        latents = denoise_again(
            pipeline, latents, [caption for caption, _ in drawn], int(rng.choice(STARTS)), generator
        )
    elif rng.random() < 0.6:
        latents = latents + _noise(latents, generator) * float(rng.uniform(0.02, 0.25))
    return torch.from_numpy(decode(pipeline, latents)), words


def _noise(latents: Tensor, generator: torch.Generator) -> Tensor:
    """Noise like `latents`: half of it white, half of it smooth in space and time."""
    white = torch.randn(latents.shape, generator=generator)
    smooth = functional.avg_pool3d(torch.randn(latents.shape, generator=generator), 3, stride=1, padding=1) * 4.0
    return (white + smooth) * 0.7


def denoise_again(
    pipeline: WanPipeline, latents: Tensor, captions: list[str], start: int, generator: torch.Generator
) -> Tensor:
    """Noise normalised latents as far as step `start` of eight begins, and let the transformer denoise them."""
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(8)
    scheduler.set_begin_index(start)
    sigma = float(scheduler.sigmas[start])
    latents = (1 - sigma) * latents + sigma * torch.randn(latents.shape, generator=generator)
    text = embed(pipeline.text_encoder, *token_ids(pipeline.tokenizer, captions))
    blank = embed(pipeline.text_encoder, *token_ids(pipeline.tokenizer, [""] * len(captions)))
    tokens = latents.shape[2] * latents.shape[3] * latents.shape[4] // 4
    for t in scheduler.timesteps[start:]:
        timestep = t.expand(len(captions), tokens)
        velocity = pipeline.transformer(latents, timestep=timestep, encoder_hidden_states=text, return_dict=False)[0]
        without = pipeline.transformer(latents, timestep=timestep, encoder_hidden_states=blank, return_dict=False)[0]
        latents = scheduler.step(without + 3.0 * (velocity - without), t, latents, return_dict=False)[0]
    return latents


class ClipPool:
    """Shards on disk and in memory, from which windows are cut; it grows while training goes on."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.folder.mkdir(parents=True, exist_ok=True)
        self.shards: list[tuple[dict[str, str], Tensor, list[Painting]]] = []

    def grow(self, pipeline: WanPipeline | None) -> None:
        """Add the next shard: read it, or make it with a pipeline and store it. Raises ValueError with neither."""
        number = len(self.shards)
        path = self.folder / f"{number:04d}.safetensors"
        if not path.exists():
            if pipeline is None:
                raise ValueError(f"{path} is missing, and there is no pipeline to make it")
            clips, words = make_shard(pipeline, self.seed, number)
            partial = path.with_suffix(".partial")
            save_file({"clips": clips.contiguous()}, partial, words)
            partial.replace(path)
        with safe_open(path, "pt") as file:
            words, clips = file.metadata(), file.get_tensor("clips")
        drawn = range(0 if words["kind"] == "picture" else SHARD)
        paintings = [
            draw_painting([self.seed, number, row], words["ratio"], generated=words["kind"] == "generated")[1]
            for row in drawn
        ]
        self.shards.append((words, clips, paintings))

    def batch(self, count: int, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Coverages [B, 4, side, side], what is missing [B, 2], and outlines [B, 3, 2 side, 2 side]."""
        rows = [self._row(side, rng) for _ in range(count)]
        windows, missing, goals = (torch.stack(column) for column in zip(*rows, strict=True))
        return windows, missing, goals

    def _row(self, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        words, clips, paintings = self.shards[int(rng.integers(len(self.shards)))]
        missing = int(rng.choice((0, 1, 2), p=(0.86, 0.07, 0.07)))
        beyond = torch.tensor([float(missing >= AFTER - index) for index in range(AFTER)])
        if words["kind"] == "picture":
            return _still(side, rng, beyond)
        number = int(rng.integers(len(paintings)))
        painting, clip = paintings[number], clips[number]  # [F, H, W, 3]
        frame = int(rng.integers(FRAMES_MAX - 1))
        x, y = painting.focus(PACE * frame, rng)
        if rng.random() < 0.15:
            x, y = rng.uniform(0, painting.width), rng.uniform(0, painting.height)
        # Windows lie where the network's own strides do, in steps of four.
        left = _placed(x, side, painting.width, rng)
        top = _placed(y, side, painting.height, rng)
        last = min(FRAMES_MAX - 1, frame + AFTER - missing)
        around = [min(max(index, 0), last) for index in range(frame - BEFORE, frame + AFTER + 1)]
        beyond = torch.tensor([float(frame + 1 + index > last) for index in range(AFTER)])
        seen = coverage_of(clip[around].permute(0, 3, 1, 2).float()[None] / 127.5 - 1)[0]
        cut = seen[:, top : top + side, left : left + side]
        moments = np.arange(PACE + 1) + PACE * frame
        return cut, beyond, torch.from_numpy(painting.outlines(moments, OUTLINE_SCALE, left, top, side))


def _placed(point: float, side: int, length: int, rng: np.random.Generator) -> int:
    """Where a window of `side` pixels begins that holds `point` and lies within `length`."""
    begin = int(point - rng.uniform(0.15, 0.85) * side)
    return min(max(begin, 0), length - side) // 4 * 4


def _still(side: int, rng: np.random.Generator, beyond: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A picture of blurred noise that stands still, and has no outlines."""
    cells = int(rng.integers(3, 24))
    coarse = torch.from_numpy(rng.uniform(-1.3, 1.3, (1, 3, cells, cells)).astype(np.float32))
    picture = functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(-1, 1)
    nothing = torch.full((PACE + 1, OUTLINE_SCALE * side, OUTLINE_SCALE * side), REACH)
    return coverage_of(picture.expand(1, WINDOW, -1, -1, -1))[0], beyond, nothing
