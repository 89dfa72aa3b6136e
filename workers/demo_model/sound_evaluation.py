"""Measure the sound: `python -m workers.demo_model.sound_evaluation --prompts 200 --seed 1 --json`.

A listener that knows only samples hears every clip; what it hears is compared with what happens in the picture:

- `sampled`: clips of the picture model (the prompts of `evaluate`, every second one held out of training); the truth
  is what is seen in the decoded frames, and for clips in which nothing but bounces clicks, also (`intended`) when the
  world would have them touch the ground;
- `world`: clips of the world, painted, encoded and decoded by the codec; the truth is the world's own.

Sounds that are compared: `pictures` (what ships: the law of sound, applied to what is seen in decoded frames), and in
the world `truth` (the law applied to the world's own ways), which tells what the listener can hear.
"""

import argparse
import copy
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

import numpy as np
import torch

from app.catalog.demo_words import Scene
from workers.demo_model.components import WEIGHTS, load
from workers.demo_model.config import FPS, FRAMES_MAX, NATIVE_SIZES
from workers.demo_model.evaluate import draw_prompts, wilson
from workers.demo_model.object_tracks import seen_tracks
from workers.demo_model.paint import paint
from workers.demo_model.sample import decode, encode, generate
from workers.demo_model.scenes import BOUNCE_SECONDS, PACE, draw_scene
from workers.demo_model.sound_law import Controls, Track, controls_of, world_tracks
from workers.demo_model.sound_listener import listen
from workers.demo_model.sound_model import hear_pictures
from workers.demo_model.sound_scores import Scores
from workers.demo_model.sound_synthesis import synthesise
from workers.engine.sound import sample_count

SIZE = NATIVE_SIZES["16:9"]
FRAMES = FRAMES_MAX - 1
"""Frames that a full segment delivers: five seconds."""

BATCH = 10


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip to score: native frames uint8 [F, H, W, 3], tracks that are true for it."""

    scene: Scene
    frames: np.ndarray
    tracks: list[Track]
    shapes_right: bool
    seed: int


def sampled_clips(weights: Path, prompts: int, seed: int) -> Iterator[Clip]:
    """Clips of the picture model, made as `evaluate` makes them, with what is seen in them."""
    pipeline = load(weights)
    scenes = [scene for scene, _ in draw_prompts(prompts, seed)]
    for first in range(0, prompts, BATCH):
        part = scenes[first : first + BATCH]
        seeds = [seed * 1_000_003 + first + index for index in range(len(part))]
        clips = generate(pipeline, [scene.caption() for scene in part], *SIZE, FRAMES_MAX, seeds)
        for index, frames in enumerate(clips):
            tracks = seen_tracks(frames)
            right = [track.shape for track in tracks] == [thing.shape for thing in part[index].things]
            yield Clip(part[index], frames, tracks, right, seeds[index])


def painted_clips(weights: Path, count: int, seed: int) -> Iterator[Clip]:
    """Clips of the world, painted, encoded and decoded again, with the world's own tracks."""
    pipeline, rng = load(weights), np.random.default_rng([seed, 11])
    for index in range(count):
        scene = draw_scene(rng, held_out=index % 2 == 1)
        pixels, tracks = paint_with_tracks(scene, *SIZE, FRAMES_MAX, rng, start=0.0, anywhere=False)
        yield Clip(scene, decode(pipeline, encode(pipeline, pixels[None]))[0], tracks, True, seed * 1_000_003 + index)


def paint_with_tracks(
    scene: Scene, width: int, height: int, frames: int, rng: np.random.Generator, *, start: float, anywhere: bool
) -> tuple[np.ndarray, list[Track]]:
    """A painted clip, uint8 [F, H, W, 3], and the exact tracks of its objects."""
    twin = copy.deepcopy(rng)
    twin.uniform(size=3)  # `paint` draws the background's colour before the ways.
    tracks = world_tracks(scene, width, height, frames, twin, start=start, anywhere=anywhere)
    pixels, _ = paint(scene, width, height, frames, rng, start=start, anywhere=anywhere)
    return pixels.round().astype(np.uint8), tracks


def intended_tracks(clip: Clip) -> list[Track] | None:
    """The tracks of a clip with the contacts that the world means its bounces to have; None where others click, too."""
    things = clip.scene.things
    if [track.motion for track in clip.tracks] != [thing.motion for thing in things]:
        return None
    if any(thing.motion in ("left", "right", "up", "down") for thing in things):
        return None
    times = [
        tuple(np.arange(BOUNCE_SECONDS / PACE[thing.speed], FRAMES / FPS, BOUNCE_SECONDS / PACE[thing.speed]))
        if thing.motion == "bounce"
        else ()
        for thing in things
    ]
    return [replace(track, contacts=contacts) for track, contacts in zip(clip.tracks, times, strict=True)]


def score(clips: Iterator[Clip], *, world: bool) -> dict[str, object]:
    """Figures of every sound over clips, and the processor seconds that each takes per clip."""
    arms: dict[str, Scores] = {}
    spent = dict.fromkeys(("pictures", "synthesis"), 0.0)
    count = 0
    for clip in clips:
        count += 1
        sounds: dict[str, Controls] = {}
        begun = process_time()
        sounds["pictures"] = hear_pictures(clip.frames)
        spent["pictures"] += process_time() - begun
        if world:
            sounds["truth"] = controls_of(clip.tracks, FRAMES_MAX)
        intended = None if world else intended_tracks(clip)
        for name, controls in sounds.items():
            begun = process_time()
            samples, _ = synthesise(controls, sample_count(FRAMES, FPS), seed=clip.seed)
            spent["synthesis"] += (process_time() - begun) / len(sounds)
            transcript = listen(samples)
            arms.setdefault(name, Scores()).add(transcript, clip.tracks, FRAMES / FPS, timbre=clip.shapes_right)
            if intended is not None:
                arms.setdefault(f"{name}_intended", Scores()).add(transcript, intended, FRAMES / FPS, timbre=False)
    seconds = {name: round(value / max(count, 1), 4) for name, value in spent.items() if value}
    return {**{name: figures(scores) for name, scores in arms.items()}, "processor_seconds": seconds}


def figures(scores: Scores) -> dict[str, object]:
    """Scores as numbers: shares, with 95 % bounds and counts."""
    result: dict[str, object] = {
        "onset_f1": scores.f1(),
        "onsets": {"hits": scores.hits, "clicks": scores.clicks, "contacts": scores.contacts},
    }
    for name, tally in scores.tallies.items():
        result[name] = {"share": tally.share(), "bounds": wilson(tally.right, tally.asked), "of": tally.asked}
    return result


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200, help="clips of the picture model")
    parser.add_argument("--painted", type=int, default=100, help="clips of the world")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print exactly one line of JSON")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0 leaves its choice")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    result: dict[str, object] = {"prompts": options.prompts, "painted": options.painted, "seed": options.seed}
    if options.prompts:
        clips = sampled_clips(options.weights, options.prompts, options.seed)
        result["sampled"] = score(clips, world=False)
    if options.painted:
        clips = painted_clips(options.weights, options.painted, options.seed)
        result["world"] = score(clips, world=True)
    sys.stdout.write(json.dumps(result, indent=None if options.json else 2) + "\n")


if __name__ == "__main__":
    main()
