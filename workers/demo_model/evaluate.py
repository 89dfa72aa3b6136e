"""Measure how well the weights follow prompts: `python -m workers.demo_model.evaluate --prompts 500 --seed 1 --json`.

Prompts are drawn from the seed, every second one from combinations that were held out of training. Every clip is
judged by the scene detector, which sees only pixels: those of the film, drawn by the upscaler at 16 frames per second
and reduced to native size, or with `--native` those that the codec decodes. `--modes` adds the first-frame and the
continuation measures.
"""

import argparse
import json
import sys
from math import sqrt
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from diffusers import WanPipeline
from rich.console import Console
from rich.progress import Progress
from torch.nn.functional import avg_pool2d

from app.catalog.demo_words import Scene
from workers.demo_model.components import WEIGHTS, load
from workers.demo_model.config import CONTINUATION_FRAMES, FRAMES_MAX, GUIDANCE, NATIVE_SIZES, STEPS, pixel_aspect
from workers.demo_model.paint import paint
from workers.demo_model.sample import ConditionFrames, generate
from workers.demo_model.scene_detector import score_prompt
from workers.demo_model.scenes import draw_scene
from workers.engine.upscaler import FILE, Upscaler, draw_frames, load_upscaler

ASPECTS = ("background", "color", "shape", "motion", "all")
BATCH = 10


def wilson(hits: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % confidence interval of a fraction, by Wilson's score."""
    if trials == 0:
        return 0.0, 1.0
    share = hits / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return round(max(0.0, middle - reach), 4), round(min(1.0, middle + reach), 4)


def as_shown(upscaler: Upscaler | None, clips: np.ndarray, first: int = 0) -> np.ndarray:
    """What the films of native clips, uint8 [B, F, H, W, 3], show from native frame `first` on, at native size.

    Without an upscaler these are the clips themselves; with one, two frames for each of theirs.
    """
    if upscaler is None:
        return clips[:, first:]
    frames = upscaler.pace * (clips.shape[1] - first)
    aspect = pixel_aspect(clips.shape[3], clips.shape[2])
    films = []
    for clip in clips:
        pieces = iter(torch.from_numpy(clip).float().div(255).split(8))
        chunks = draw_frames(upscaler, pieces, first=first, frames=frames, pace=upscaler.pace, aspect=aspect)
        small = [avg_pool2d(chunk.permute(0, 3, 1, 2).float(), upscaler.scale) for chunk in chunks]
        films.append(torch.cat(small).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.stack(films)


def draw_prompts(count: int, seed: int) -> list[tuple[Scene, bool]]:
    """Scenes to ask for and whether each was held out of training: every second one is."""
    rng = np.random.default_rng([seed, 2026])
    return [(draw_scene(rng, held_out=index % 2 == 1), index % 2 == 1) for index in range(count)]


def psnr(rendered: np.ndarray, expected: np.ndarray) -> float:
    """Peak signal-to-noise ratio of pictures in bytes, in dB."""
    error = float(np.square(rendered.astype(np.float64) - expected.astype(np.float64)).mean())
    return float(10 * np.log10(255.0**2 / max(error, 1e-9)))


def evaluate_prompts(
    pipeline: WanPipeline,
    upscaler: Upscaler | None,
    prompts: int,
    seed: int,
    ratio: str,
    frames: int,
    steps: int,
    guidance: float,
    progress: Progress,
) -> dict[str, object]:
    """Fractions of prompts whose clip shows what they ask for, with confidence bounds; and those of parts."""
    width, height = NATIVE_SIZES[ratio]
    scenes = draw_prompts(prompts, seed)
    verdicts: list[dict[str, bool]] = []
    task = progress.add_task("prompts", total=prompts)
    for first in range(0, prompts, BATCH):
        part = scenes[first : first + BATCH]
        seeds = [seed * 1_000_003 + first + index for index in range(len(part))]
        clips = generate(
            pipeline,
            [scene.caption() for scene, _ in part],
            width,
            height,
            frames,
            seeds,
            steps=steps,
            guidance=guidance,
        )
        films = as_shown(upscaler, clips)
        verdicts += [score_prompt(film, scene) for film, (scene, _) in zip(films, part, strict=True)]
        progress.update(task, advance=len(part))
    held_out_flags = [held_out for _, held_out in scenes]
    single = [len(scene.things) == 1 for scene, _ in scenes]
    return {
        **{aspect: _share(verdicts, aspect) for aspect in ASPECTS},
        "bounds": {aspect: wilson(sum(verdict[aspect] for verdict in verdicts), len(verdicts)) for aspect in ASPECTS},
        "held_out": {
            aspect: _share([v for v, out in zip(verdicts, held_out_flags, strict=True) if out], aspect)
            for aspect in ASPECTS
        },
        "one_object": {
            aspect: _share([v for v, one in zip(verdicts, single, strict=True) if one], aspect) for aspect in ASPECTS
        },
        "two_objects": {
            aspect: _share([v for v, one in zip(verdicts, single, strict=True) if not one], aspect)
            for aspect in ASPECTS
        },
    }


def _share(verdicts: list[dict[str, bool]], aspect: str) -> float:
    """The fraction of verdicts in which an aspect is right."""
    return round(sum(verdict[aspect] for verdict in verdicts) / max(len(verdicts), 1), 4)


def evaluate_modes(
    pipeline: WanPipeline, upscaler: Upscaler | None, clips: int, seed: int, ratio: str, progress: Progress
) -> dict[str, object]:
    """First-frame, last-frame and continuation measures on painted pictures and the model's own clips.

    `joint` compares the step from a clip's last frame to its continuation's first new frame with the median step
    between neighbouring frames of both clips (mean absolute difference in levels).
    """
    width, height = NATIVE_SIZES[ratio]
    rng = np.random.default_rng([seed, 7])
    first, last, joint, verdicts = [], [], [], []
    task = progress.add_task("modes", total=clips)
    for begin in range(0, clips, BATCH):
        scenes = [draw_scene(rng, held_out=None) for _ in range(min(BATCH, clips - begin))]
        painted = np.stack(
            [paint(scene, width, height, FRAMES_MAX, rng)[0].round().astype(np.uint8) for scene in scenes]
        )
        words = [scene.caption() for scene in scenes]
        seeds = [seed * 1_000_003 + 500_000 + begin + index for index in range(len(scenes))]
        size = (width, height, FRAMES_MAX, seeds)
        rendered = generate(pipeline, words, *size, ConditionFrames(lead=painted[:, :1]))
        films = as_shown(upscaler, rendered)
        first += [psnr(film[0], expected[0]) for film, expected in zip(films, painted, strict=True)]
        verdicts += [score_prompt(film, scene) for film, scene in zip(films, scenes, strict=True)]
        both = generate(pipeline, words, *size, ConditionFrames(lead=painted[:, :1], last=painted[:, -1]))
        ends = as_shown(upscaler, both)[:, -upscaler.pace if upscaler else -1]
        last += [psnr(end, expected[-1]) for end, expected in zip(ends, painted, strict=True)]
        more = generate(pipeline, words, *size, ConditionFrames(lead=rendered[:, -CONTINUATION_FRAMES:]))
        following = as_shown(upscaler, more, CONTINUATION_FRAMES)
        for before, after in zip(films.astype(np.float32), following.astype(np.float32), strict=True):
            steps = np.abs(np.diff(np.concatenate([before, after]), axis=0)).mean((1, 2, 3))
            joint.append((float(steps[len(before) - 1]), float(np.median(steps))))
        progress.update(task, advance=len(scenes))
    jumps = np.array(joint)
    return {
        "first_frame_psnr": {"mean": round(float(np.mean(first)), 2), "least": round(float(np.min(first)), 2)},
        "first_frame_follows": {aspect: _share(verdicts, aspect) for aspect in ASPECTS},
        "last_frame_psnr": {"mean": round(float(np.mean(last)), 2), "least": round(float(np.min(last)), 2)},
        "joint": {
            "jump_mean": round(float(jumps[:, 0].mean()), 3),
            "median_step_mean": round(float(jumps[:, 1].mean()), 3),
            "median_ratio": round(float(np.median(jumps[:, 0] / np.maximum(jumps[:, 1], 1e-6))), 3),
        },
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100, help="how many prompts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print exactly one line of JSON")
    parser.add_argument("--ratio", choices=list(NATIVE_SIZES), default="16:9")
    parser.add_argument("--frames", type=int, default=FRAMES_MAX, help="length of the clips, 4k+1")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument(
        "--modes", type=int, default=0, metavar="N", help="also measure N first-frame clips and continuations"
    )
    parser.add_argument("--native", action="store_true", help="judge the decoded frames, not the upscaler's")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0 leaves its choice")
    return parser


def main() -> None:
    """Read the options, measure, print."""
    options = _parser().parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    begun = perf_counter()
    pipeline = load(options.weights)
    upscaler = None if options.native else load_upscaler(options.weights / FILE)
    with Progress(console=Console(stderr=True), disable=options.json) as progress:
        figures = evaluate_prompts(
            pipeline,
            upscaler,
            options.prompts,
            options.seed,
            options.ratio,
            options.frames,
            options.steps,
            options.guidance,
            progress,
        )
        if options.modes:
            figures |= evaluate_modes(pipeline, upscaler, options.modes, options.seed, options.ratio, progress)
    facts = {
        "modes": options.modes,
        "prompts": options.prompts,
        "native": options.native,
        "seed": options.seed,
        "ratio": options.ratio,
        "frames": options.frames,
        "steps": options.steps,
        "guidance": options.guidance,
    }
    figures |= {**facts, "seconds": round(perf_counter() - begun, 1)}
    if options.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    for key, value in figures.items():
        sys.stdout.write(f"{key:22} {value}\n")


if __name__ == "__main__":
    main()
