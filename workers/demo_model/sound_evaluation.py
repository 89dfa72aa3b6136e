"""Measure the sound: `python -m workers.demo_model.sound_evaluation --prompts 200 --seed 1 --json`.

A listener that knows only samples hears every clip; what it hears is compared with what happens in the picture. Clips
come from the picture model (its own prompts, every second one held out of training), where the truth is what is seen
in the decoded frames; and from the world, painted and encoded, where the truth is the world's own. Three sounds are
compared: `head` (from latents), `rules` (the law of sound applied to what is seen in decoded frames), and, for painted
clips, `truth` (the law applied to the world's own ways), which tells what the listener can hear.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np
import torch
from torch import Tensor

from workers.demo_model.evaluate import draw_prompts, wilson
from workers.demo_model.facts import FPS, FRAMES_MAX, NATIVE_SIZES
from workers.demo_model.object_tracks import seen_tracks
from workers.demo_model.parts import WEIGHTS, load
from workers.demo_model.sample import decode, encode, generate_latents
from workers.demo_model.sound_data import paint_with_tracks
from workers.demo_model.sound_law import Controls, Track, controls_of
from workers.demo_model.sound_listener import listen
from workers.demo_model.sound_model import SoundModel
from workers.demo_model.sound_scores import Scores
from workers.demo_model.sound_synthesis import synthesise
from workers.demo_model.world import draw_scene
from workers.engine.sound import Samples, sample_count

SIZE = NATIVE_SIZES["16:9"]
FRAMES = FRAMES_MAX - 1
"""Frames that a full segment delivers: five seconds."""

BATCH = 10


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip to score: latents [1, 16, f, h, w], native frames uint8 [F, H, W, 3], tracks that are true for it."""

    latents: Tensor
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
        latents = generate_latents(pipeline, [scene.caption() for scene in part], *SIZE, FRAMES_MAX, seeds)
        for index, frames in enumerate(decode(pipeline, latents)):
            tracks = seen_tracks(frames)
            right = [track.shape for track in tracks] == [thing.shape for thing in part[index].things]
            yield Clip(latents[index : index + 1], frames, tracks, right, seeds[index])


def painted_clips(weights: Path, count: int, seed: int) -> Iterator[Clip]:
    """Clips of the world, painted, encoded and decoded again, with the world's own tracks."""
    pipeline, rng = load(weights), np.random.default_rng([seed, 11])
    for index in range(count):
        scene = draw_scene(rng, held_out=index % 2 == 1)
        pixels, tracks = paint_with_tracks(scene, *SIZE, FRAMES_MAX, rng, start=0.0, anywhere=False)
        latents = encode(pipeline, pixels[None])
        yield Clip(latents, decode(pipeline, latents)[0], tracks, True, seed * 1_000_003 + index)


def play(controls: Controls, seed: int) -> Samples:
    """Five seconds of sound."""
    return synthesise(controls, sample_count(FRAMES, FPS), seed=seed)[0]


def score(clips: Iterator[Clip], model: SoundModel, *, world: bool) -> dict[str, object]:
    """Figures of every sound over clips, and the processor seconds that each takes per clip."""
    arms = {name: Scores() for name in (("head", "rules", "truth") if world else ("head", "rules"))}
    spent = dict.fromkeys(("head", "synthesis", "rules"), 0.0)
    count = 0
    for count, clip in enumerate(clips, start=1):  # noqa: B007 (the last number is used)
        begun = process_time()
        sounds = {"head": model.controls(clip.latents)[0]}
        spent["head"] += process_time() - begun
        begun = process_time()
        sounds["rules"] = controls_of(seen_tracks(clip.frames), FRAMES_MAX)
        spent["rules"] += process_time() - begun
        if world:
            sounds["truth"] = controls_of(clip.tracks, FRAMES_MAX)
        for name, controls in sounds.items():
            begun = process_time()
            samples = play(controls, clip.seed)
            spent["synthesis"] += (process_time() - begun) / len(sounds)
            arms[name].add(listen(samples), clip.tracks, FRAMES / FPS, timbre=clip.shapes_right)
    seconds = {name: round(value / max(count, 1), 4) for name, value in spent.items()}
    return {**{name: figures(scores) for name, scores in arms.items()}, "processor_seconds": seconds}


def figures(scores: Scores) -> dict[str, object]:
    """Scores as numbers: shares, with 95 % bounds and counts."""
    result: dict[str, object] = {
        "onset_f1": scores.f1(),
        "onsets": {"matched": scores.matched, "heard": scores.heard, "happened": scores.happened},
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
    model = SoundModel.load(options.weights)
    result: dict[str, object] = {"prompts": options.prompts, "painted": options.painted, "seed": options.seed}
    if options.prompts:
        clips = sampled_clips(options.weights, options.prompts, options.seed)
        result["sampled"] = score(clips, model, world=False)
    if options.painted:
        clips = painted_clips(options.weights, options.painted, options.seed)
        result["world"] = score(clips, model, world=True)
    sys.stdout.write(json.dumps(result, indent=None if options.json else 2) + "\n")


if __name__ == "__main__":
    main()
