"""Measure the worker on a CPU: its time and memory over the bare diffusers pipeline that writes the same film.

`python -m tests.bench.engine [--pairs N]`. Both arms load the demo model, use the same number of threads,
render the same requests and write the same pixels through the same ffmpeg settings; they alternate, so that a busy
machine is busy for both. Peak memory is that of a process of its own, per arm and length.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from diffusers import WanPipeline
from diffusers.utils import export_to_video

from app.catalog.models import VideoModel, require_model
from workers.engine import EngineControl, SegmentRequest, make_engine, segment_seed
from workers.engine.load import find_weights, set_cpu_threads
from workers.engine.meter import peak_host_bytes
from workers.film.clip_writer import ClipWriter

WIDTH, HEIGHT, RESOLUTION, RATIO = 1280, 720, "720P", "16:9"
Arm = Callable[[str, int, Path], None]


def worker_arm(model: VideoModel) -> Arm:
    """Return what makes a film of `seconds` into a folder with our engine: segments chained, frames streamed."""
    engine = make_engine(model, "cpu")
    engine.load()

    def make(prompt: str, seconds: int, folder: Path) -> None:
        handover = None
        for index, frames in enumerate(model.segments(seconds * model.fps, model.fps)):
            request = replace(request_of(model, prompt, frames, index), handover=handover)
            with clip(model, folder / f"{index}.mp4", frames) as writer:
                for chunk in engine.render(request, EngineControl()):
                    writer.write(chunk)
            handover = engine.handover

    return make


def bare_arm(model: VideoModel, *, stock: bool = False) -> Arm:
    """Return what makes one segment's film with diffusers alone: the whole clip is decoded, then written.

    `stock` writes with diffusers' own `export_to_video` at native size, else with our encoder at the film's size.
    """
    pipeline = WanPipeline.from_pretrained(find_weights(model), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def make(prompt: str, seconds: int, folder: Path) -> None:
        frames = seconds * model.fps
        pictures = bare_frames(pipeline, model, prompt, frames, "np" if stock else "pil")
        if stock:
            export_to_video(list(pictures), str(folder / "stock.mp4"), fps=model.fps)
            return
        with clip(model, folder / "bare.mp4", frames) as writer:
            writer.write(np.stack([np.asarray(picture) for picture in pictures]))

    return make


def bare_frames(pipeline: Any, model: VideoModel, prompt: str, frames: int, output: str) -> Any:
    """Return the frames that diffusers' own pipeline makes, as it gives them (`np`: floats, `pil`: pictures)."""
    width, height = model.native[RESOLUTION][RATIO]
    pictures = pipeline(
        prompt=prompt,
        negative_prompt=model.negative_prompt,
        width=width,
        height=height,
        num_frames=model.rendered_frames(frames),
        num_inference_steps=model.steps,
        guidance_scale=model.guidance,
        generator=torch.Generator("cpu").manual_seed(segment_seed(1, 0, 0)),
        max_sequence_length=model.text_length,
        output_type=output,
    )
    return pictures.frames[0][:frames]


def request_of(model: VideoModel, prompt: str, frames: int, index: int) -> SegmentRequest:
    """Return the request for one segment of the film."""
    width, height = model.native[RESOLUTION][RATIO]
    return SegmentRequest(
        prompt=prompt,
        width=width,
        height=height,
        frames=frames,
        fps=model.fps,
        seed=segment_seed(1, 0, index),
        steps=model.steps,
        guidance=model.guidance,
        resolution=RESOLUTION,
    )


def clip(model: VideoModel, path: Path, frames: int) -> ClipWriter:
    """Return a writer of the film's size and pace."""
    width, height = model.native[RESOLUTION][RATIO]
    return ClipWriter(
        path,
        in_width=width,
        in_height=height,
        width=WIDTH,
        height=HEIGHT,
        fps=Fraction(model.fps),
        frames=frames,
    )


def without_upscaler() -> VideoModel:
    """Return the demo model as diffusers knows it: our pipeline's other half draws what no pipeline of theirs has."""
    model = require_model("demo")
    return model.model_copy(update={"upscaler": None, "fps": model.native_fps})


def prompt_of(number: int) -> str:
    """Return a prompt that no earlier pair had, so that no arm finds its words in a cache."""
    return f"a big red circle moves right on a white background {'a ' * number}".strip()


def paired_times(arms: dict[str, Arm], pairs: int) -> dict[str, list[float]]:
    """Return the seconds of each arm for a 5 s film, by pair; the arms take turns in going first."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(pairs + 1):
            order = list(arms.items())
            for name, arm in order if number % 2 else reversed(order):
                began = perf_counter()
                arm(prompt_of(number), 5, Path(folder))
                if number:  # the first pair warms up
                    times[name].append(perf_counter() - began)
    return times


def most_different(model: VideoModel) -> int:
    """Return by how many levels of 255 the two arms' frames differ at most, before they are encoded."""
    frames = 5 * model.fps
    engine = make_engine(model, "cpu")
    ours = np.concatenate(list(engine.render(request_of(model, prompt_of(0), frames, 0), EngineControl())))
    engine.close()
    pipeline = WanPipeline.from_pretrained(find_weights(model), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    theirs = np.stack([np.asarray(each) for each in bare_frames(pipeline, model, prompt_of(0), frames, "pil")])
    return int(np.abs(ours.astype(int) - theirs.astype(int)).max())


def peak_bytes(arm: str, seconds: int) -> dict[str, int]:
    """Return a fresh process's memory after loading and at its peak, for one arm and length, in bytes."""
    command = [sys.executable, "-m", "tests.bench.engine", "--child", arm, "--seconds", str(seconds)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    measured: dict[str, int] = json.loads(answer.splitlines()[-1])
    return measured


def child(arm: str, seconds: int) -> None:
    """Make one film in this process and print the memory it took."""
    model = without_upscaler()
    set_cpu_threads(torch.device("cpu"))
    make = worker_arm(model) if arm == "worker" else bare_arm(model)
    with tempfile.TemporaryDirectory() as folder:
        make(prompt_of(0), 1, Path(folder))
        loaded = peak_host_bytes()
        make(prompt_of(0), seconds, Path(folder))
    print(json.dumps({"loaded": loaded, "peak": peak_host_bytes()}))


def report(pairs: int) -> None:
    """Measure everything and print it as one table."""
    model = without_upscaler()
    threads = set_cpu_threads(torch.device("cpu"))
    times = paired_times(
        {"worker": worker_arm(model), "bare": bare_arm(model), "stock": bare_arm(model, stock=True)}, pairs
    )
    over_bare = median(ours / bare for ours, bare in zip(times["worker"], times["bare"], strict=True))
    over_stock = median(ours / stock for ours, stock in zip(times["worker"], times["stock"], strict=True))
    short, bare, long = peak_bytes("worker", 5), peak_bytes("bare", 5), peak_bytes("worker", 60)
    rows = [
        (f"worker, {model.id}, 5 s film at {WIDTH}x{HEIGHT}, {threads} thread(s)", f"{median(times['worker']):.2f} s"),
        ("bare diffusers pipeline, same film, same encoder", f"{median(times['bare']):.2f} s"),
        ("diffusers pipeline and export_to_video at native size", f"{median(times['stock']):.2f} s"),
        ("worker ÷ bare (paired median; at most 1.05)", f"{over_bare:.3f}"),
        ("worker ÷ export_to_video (paired median)", f"{over_stock:.3f}"),
        ("greatest difference of a pixel before encoding, of 255", f"{most_different(model)}"),
        ("peak memory, worker ÷ bare, 5 s", f"{short['peak'] / bare['peak']:.3f}"),
        ("peak memory, worker, 5 s", f"{short['peak'] / 2**20:.0f} MiB"),
        ("peak memory, worker, 60 s (chained)", f"{long['peak'] / 2**20:.0f} MiB"),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def main() -> None:
    """Read the command line."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--pairs", type=int, default=7)
    arguments.add_argument("--child", choices=("worker", "bare"))
    arguments.add_argument("--seconds", type=int, default=5)
    told = arguments.parse_args()
    if told.child:
        child(told.child, told.seconds)
    else:
        report(told.pairs)


if __name__ == "__main__":
    main()
