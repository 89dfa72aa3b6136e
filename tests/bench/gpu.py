"""Measure the engine on a GPU beside stock diffusers: `make bench-gpu`, or `python -m tests.bench.gpu [--steps N]`.

The true Wan2.1-1.3B and Wan2.2-TI2V-5B architectures at random weights, so nothing is downloaded; files only, no
database. Both arms run in one process on the same weights; stock goes first, on diffusers' defaults. It reports and
judges nothing. Without CUDA every figure is "not measured".
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Any

import torch
from diffusers.utils import export_to_video

from app.catalog.memory_estimate import forward_flops
from app.catalog.models import VideoModel, load_catalog
from tests.bench.architectures import random_pipeline
from workers.engine import SegmentRequest
from workers.engine.load import Parts
from workers.engine.request import Frames
from workers.engine.wan import WanEngine
from workers.film.clip_writer import ClipWriter
from workers.render_control import TakeControl

CASES = (
    ("wan2.1-t2v-1.3b", 832, 480),
    ("wan2.1-t2v-1.3b", 1280, 720),
    ("wan2.2-ti2v-5b", 832, 480),
    # Its sides are multiples of 32, so 704 lines stand for 720.
    ("wan2.2-ti2v-5b", 1280, 704),
)
FRAMES = 81
ROWS = (
    "matrix product of 8192, TFLOP/s",
    "stock forward, s",
    "stock forward, TFLOP/s",
    "engine forward, s",
    "engine forward, TFLOP/s",
    "engine kernels",
    "engine text, s",
    "engine denoise, s",
    "engine decode, s",
    "engine peak memory, GiB",
    "idle between two clips, % of a clip",
    "stock end to end, s",
    "engine end to end, s",
    "engine ÷ stock",
)
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Case:
    """One measurement: a catalogue entry cut down to one size, and how it is run."""

    model: VideoModel
    width: int
    height: int
    frames: int
    steps: int
    device: torch.device
    small: bool = False

    @property
    def title(self) -> str:
        return f"{self.model.id} {self.width}x{self.height}x{self.frames}, {self.steps} steps"


def case_of(model_id: str, width: int, height: int, frames: int, steps: int, device: torch.device) -> Case:
    """Return the case of a catalogue model at one size, which becomes its one declared shape.

    On a CPU the parts are small stand-ins, so the model's weights must not be counted against its memory.
    """
    model = load_catalog()[model_id]
    assert model.architecture is not None
    if device.type != "cuda":
        light = {"transformer_params": 1, "text_params": 1, "vae_params": 1}
        model = model.model_copy(update={"architecture": model.architecture.model_copy(update=light)})
    changes = {"native": {"480P": {"16:9": (width, height)}}, "frames_max": frames, "flow_shift": {}}
    return Case(model.model_copy(update=changes), width, height, frames, steps, device, small=device.type != "cuda")


def measure(case: Case, folder: Path) -> dict[str, str]:
    """Return the table's rows for one case. Files are written into `folder`."""
    pipeline = random_pipeline(case.model.id, case.device, height=case.height, small=case.small)
    rows = dict.fromkeys(ROWS, NOT_MEASURED)
    flops = forward_flops(case.model, case.width, case.height, case.frames)
    rows[ROWS[0]] = f"{_matrix_speed(case.device) / 1e12:.0f}"
    stock_forward = _forward_seconds(case, pipeline.transformer, per_token=case.model.expand_timesteps)
    rows[ROWS[1]], rows[ROWS[2]] = f"{stock_forward:.3f}", f"{flops / stock_forward / 1e12:.0f}"
    stock = _stock_seconds(case, pipeline, folder)
    engine = WanEngine(case.model, str(case.device))
    engine.adopt(Parts(pipeline, case.device, case.model.boundary_ratio, case.model.expand_timesteps, offload=False))
    with engine.kernels.for_shape(case.width, case.height, case.frames):
        own_forward = _forward_seconds(case, pipeline.transformer, per_token=False)
    rows[ROWS[3]], rows[ROWS[4]] = f"{own_forward:.3f}", f"{flops / own_forward / 1e12:.0f}"
    rows[ROWS[5]] = f"{engine.kernels.attention}, {'compiled' if engine.kernels.compiled else 'eager'}"
    own, idle = _engine_seconds(case, engine, folder)
    meter = engine.meter
    rows[ROWS[6]], rows[ROWS[7]], rows[ROWS[8]] = (
        f"{meter.seconds[stage]:.2f}" for stage in ("text", "denoise", "decode")
    )
    rows[ROWS[9]] = f"{meter.peak_memory_bytes / 2**30:.1f}"
    rows[ROWS[10]] = f"{100 * idle / own:.2f}"
    rows[ROWS[11]], rows[ROWS[12]], rows[ROWS[13]] = f"{stock:.2f}", f"{own:.2f}", f"{own / stock:.3f}"
    engine.close()
    return rows


@contextmanager
def _timed(device: torch.device, seconds: list[float]) -> Iterator[None]:
    """Append the seconds of the block, all work on the device included."""
    _settle(device)
    began = perf_counter()
    yield
    _settle(device)
    seconds.append(perf_counter() - began)


def _settle(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _matrix_speed(device: torch.device) -> float:
    """Return the operations per second of a large matrix product, the practical ceiling of this device."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (256, torch.float32)
    left = torch.randn(size, size, device=device, dtype=dtype)
    seconds: list[float] = []
    for _ in range(8):
        with _timed(device, seconds):
            torch.mm(left, left)
    return 2 * size**3 / min(seconds)


@torch.no_grad()
def _forward_seconds(case: Case, transformer: Any, *, per_token: bool) -> float:
    """Return the seconds of one forward pass, the best of three after two that warm up."""
    scale = case.model.architecture.spatial_scale if case.model.architecture else 8
    high, wide, frames = case.height // scale, case.width // scale, (case.frames - 1) // 4 + 1
    config, dtype = transformer.config, transformer.dtype
    hidden = torch.randn(1, config.in_channels, frames, high, wide, device=case.device, dtype=dtype)
    words = torch.randn(1, case.model.text_length, config.text_dim, device=case.device, dtype=dtype)
    count = (1, frames * (high // 2) * (wide // 2)) if per_token else (1,)
    timestep = torch.full(count, 500.0, device=case.device)
    seconds: list[float] = []
    for _ in range(5):
        with _timed(case.device, seconds), transformer.cache_context("cond"):
            transformer(hidden, timestep=timestep, encoder_hidden_states=words, return_dict=False)
    return min(seconds[2:])


def _stock_seconds(case: Case, pipeline: Any, folder: Path) -> float:
    """Return the seconds of diffusers' own way from words to a file, after a short run that warms up."""
    seconds: list[float] = []
    for steps in (1, case.steps):
        with _timed(case.device, seconds):
            frames = pipeline(
                prompt="a red circle moves right",
                negative_prompt=case.model.negative_prompt,
                width=case.width,
                height=case.height,
                num_frames=case.frames,
                num_inference_steps=steps,
                guidance_scale=case.model.guidance,
                generator=torch.Generator("cpu").manual_seed(1),
                max_sequence_length=case.model.text_length,
            ).frames[0]
            export_to_video(list(frames), str(folder / "stock.mp4"), fps=case.model.fps)
    return seconds[-1]


def _engine_seconds(case: Case, engine: WanEngine, folder: Path) -> tuple[float, float]:
    """Return the engine's seconds from words to a file, and those in which the device waited for the next clip.

    Two clips are queued. As in a worker, the second one's words are encoded beside the first one's steps, and a file is
    finished beside the next render. The wait begins when a clip's last frames have left the device and ends with the
    next one's first forward pass.
    """
    starts: list[float] = []
    hook = engine.parts.transformer.register_forward_pre_hook(lambda *_: starts.append(perf_counter()))
    warm, one, two = (_request(case, number, steps) for number, steps in enumerate((1, case.steps, case.steps)))
    _render(case, engine, folder / "warm.mp4", warm).join()
    began = perf_counter()
    closing = _render(case, engine, folder / "one.mp4", one, ahead=two)
    ended = perf_counter()
    before = len(starts)
    closing_two = _render(case, engine, folder / "two.mp4", two)
    closing.join()
    closing_two.join()
    whole = perf_counter() - began
    hook.remove()
    return whole / 2, starts[before] - ended


def _request(case: Case, number: int, steps: int) -> SegmentRequest:
    """Return the request of a clip with words and a seed of its own."""
    return SegmentRequest(
        prompt=f"a red circle moves right{' slowly' * number}",
        negative_prompt=case.model.negative_prompt,
        width=case.width,
        height=case.height,
        frames=case.frames,
        fps=case.model.fps,
        seed=number,
        steps=steps,
        guidance=case.model.guidance,
    )


class PrefetchingControl(TakeControl):
    """A control that prefetches the next request after the first step, as a worker does."""

    def __init__(self, engine: WanEngine, ahead: SegmentRequest) -> None:
        super().__init__()
        self._engine = engine
        self._ahead = ahead

    def on_step(self, step: int, steps: int, preview: Frames | None = None) -> None:
        super().on_step(step, steps, preview)
        if step == 1:
            self._engine.prefetch(self._ahead)


def _render(
    case: Case, engine: WanEngine, path: Path, request: SegmentRequest, ahead: SegmentRequest | None = None
) -> Thread:
    """Render one clip into a file, with a look ahead after its first step; return the thread that finishes the file."""
    writer = ClipWriter(
        path,
        in_width=case.width,
        in_height=case.height,
        width=case.width,
        height=case.height,
        fps=Fraction(case.model.fps),
        frames=case.frames,
    )
    control = TakeControl() if ahead is None else PrefetchingControl(engine, ahead)
    for chunk in engine.render(request, control):
        writer.write(chunk)
    closing = Thread(target=writer.close)
    closing.start()
    return closing


def table(columns: dict[str, dict[str, str]]) -> str:
    """Return the rows as a Markdown table, a column per case."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(column[row] for column in columns.values()) + " |" for row in ROWS]
    return "\n".join(lines)


def main() -> None:
    """Measure every case and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--steps", type=int, default=20, help="denoising steps of both arms")
    told = arguments.parse_args()
    measured = torch.cuda.is_available()
    device = torch.device("cuda:0" if measured else "cpu")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name(0) if measured else 'no CUDA device'}", flush=True)
    columns: dict[str, dict[str, str]] = {}
    for model_id, width, height in CASES:
        case = case_of(model_id, width, height, FRAMES, told.steps, device)
        columns[case.title] = dict.fromkeys(ROWS, NOT_MEASURED)
        if measured:
            with tempfile.TemporaryDirectory() as folder:
                columns[case.title] = measure(case, Path(folder))
            torch.cuda.empty_cache()
            print(f"{case.title}: {columns[case.title]}", flush=True)
    print(table(columns))


if __name__ == "__main__":
    main()
