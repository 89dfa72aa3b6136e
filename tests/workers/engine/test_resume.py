"""A render that was killed goes on from its checkpoint and makes the same frames; a foreign checkpoint is refused."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.workers.engine.conftest import TinyWan
from tests.workers.engine.segment_requests import STEPS, Watcher, film, pictures, request
from tests.workers.engine.tiny_wan import tiny_model
from workers.engine import Engine, SegmentRequest, Stopped, make_engine
from workers.engine.checkpoint import (
    Progress,
    fingerprint,
    read_checkpoint,
    snapshot,
    steps_done,
    write_checkpoint,
)
from workers.engine.errors import CheckpointRejected
from workers.engine.load import clone_scheduler
from workers.engine.wan import WanEngine


def stop_at(step: int) -> Watcher:
    """Return a watcher that stops the render after a step, once that step's checkpoint was offered."""
    watcher = Watcher(lambda done: watcher.stop() if done == step else None)
    return watcher


@pytest.mark.parametrize("unipc", [True, False], ids=["unipc", "euler"])
@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("family", ["t2v-a14b", "ti2v"])
def test_a_resumed_render_makes_the_same_frames(
    tiny_wan: TinyWan, tmp_path: Path, family: str, step: int, unipc: bool
) -> None:
    model = tiny_model(family, tiny_wan(family, unipc=unipc))
    undisturbed = film(make_engine(model, "cpu"), request())
    segment = request(checkpoint_dir=tmp_path, key="job/0/0")
    engine, watcher = make_engine(model, "cpu"), stop_at(step)
    with pytest.raises(Stopped):
        film(engine, segment, watcher)
    assert engine.meter.steps == step
    assert watcher.checkpoints == [segment.checkpoint_path] * len(watcher.checkpoints)
    assert watcher.checkpoints
    fresh = make_engine(model, "cpu")
    resumed = film(fresh, segment)
    np.testing.assert_array_equal(resumed, undisturbed)
    assert 0 < fresh.meter.resumed_from_step <= step
    assert fresh.meter.steps == STEPS - fresh.meter.resumed_from_step


def test_a_worker_that_dies_while_decoding_need_not_denoise_again(tiny_wan: TinyWan, tmp_path: Path) -> None:
    model = tiny_model("ti2v", tiny_wan("ti2v"))
    segment = request(checkpoint_dir=tmp_path, key="k", mode="i2v", first_frame=pictures(1)[0])
    watcher = Watcher()
    chunks = make_engine(model, "cpu").render(segment, watcher)
    first = next(chunks)
    chunks.close()
    steps = steps_done(path_of(segment))
    assert steps > 0
    fresh = make_engine(model, "cpu")
    output = film(fresh, segment)
    assert fresh.meter.steps == STEPS - steps
    np.testing.assert_array_equal(output[:1], first)
    np.testing.assert_array_equal(
        output, film(make_engine(model, "cpu"), request(mode="i2v", first_frame=pictures(1)[0]))
    )


def path_of(segment: SegmentRequest) -> Path:
    """Return where the checkpoint of a request lies."""
    assert segment.checkpoint_path is not None
    return segment.checkpoint_path


CHANGES: list[dict[str, Any]] = [
    {"prompt": "a blue square"},
    {"negative_prompt": "red"},
    {"seed": 5},
    {"steps": 5},
    {"guidance": 4.0},
    {"frames": 13},
    {"mode": "i2v", "first_frame": pictures(1)[0]},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: next(iter(changes)))
def test_a_checkpoint_of_another_render_is_refused(tiny_wan: TinyWan, tmp_path: Path, changes: dict[str, Any]) -> None:
    model = tiny_model("ti2v", tiny_wan("ti2v"))
    with pytest.raises(Stopped):
        film(make_engine(model, "cpu"), request(checkpoint_dir=tmp_path, key="k"), stop_at(2))
    engine = make_engine(model, "cpu")
    output = film(engine, request(checkpoint_dir=tmp_path, key="k", **changes))
    assert engine.meter.resumed_from_step == 0
    np.testing.assert_array_equal(output, film(make_engine(model, "cpu"), request(**changes)))


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_broken_checkpoint_costs_time_but_no_frame(tiny_wan: TinyWan, tmp_path: Path, damage: str) -> None:
    model = tiny_model("ti2v", tiny_wan("ti2v"))
    segment = request(checkpoint_dir=tmp_path, key="k")
    path = path_of(segment)
    with pytest.raises(Stopped):
        film(make_engine(model, "cpu"), segment, stop_at(2))
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "noise": os.urandom(2000), "empty": b""}[damage])
    engine = make_engine(model, "cpu")
    np.testing.assert_array_equal(film(engine, segment), film(make_engine(model, "cpu"), request()))
    assert engine.meter.resumed_from_step == 0


def test_a_scheduler_comes_back_to_the_bit(tiny_wan: TinyWan, tmp_path: Path) -> None:
    engine = WanEngine(tiny_model("t2v", tiny_wan("t2v")), "cpu")
    engine.load()
    generator = torch.Generator().manual_seed(0)
    scheduler = clone_scheduler(engine.parts, 3.0)
    scheduler.set_timesteps(6)
    latents = torch.randn(1, 16, 3, 4, 8, generator=generator)
    for timestep in scheduler.timesteps[:3]:
        latents = scheduler.step(torch.randn(latents.shape, generator=generator), timestep, latents).prev_sample
    header = fingerprint({"prompt": "x", "seed": 1}, {"first": None})
    path = tmp_path / "c"
    write_checkpoint(path, *snapshot(header, Progress(3, latents), scheduler))
    again = clone_scheduler(engine.parts, 3.0)
    again.set_timesteps(6)
    progress = read_checkpoint(path, header, again, torch.device("cpu"))
    assert progress.step == 3
    velocities = [torch.randn(latents.shape, generator=generator) for _ in range(3)]
    ends = []
    for each in (scheduler, again):
        moved = progress.latents.clone()
        for timestep, velocity in zip(scheduler.timesteps[3:], velocities, strict=True):
            moved = each.step(velocity, timestep, moved).prev_sample
        ends.append(moved)
    assert torch.equal(*ends)
    with pytest.raises(CheckpointRejected, match="seed differ"):
        read_checkpoint(path, {**header, "seed": "2"}, again, torch.device("cpu"))
    assert all(tensor.dtype != torch.uint8 for tensor in load_file(path).values())


def test_a_full_disk_costs_the_checkpoint_and_not_the_render(tiny_wan: TinyWan, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    engine: Engine = make_engine(tiny_model("ti2v", tiny_wan("ti2v")), "cpu")
    watcher = Watcher()
    film(engine, request(checkpoint_dir=blocked, key="k"), watcher)
    assert watcher.checkpoints == []


def test_a_model_with_a_step_cache_keeps_no_checkpoint(tiny_wan: TinyWan, tmp_path: Path) -> None:
    """Its residuals are no part of one, so a resumed render would make other frames than an undisturbed one."""
    model = tiny_model("ti2v", tiny_wan("ti2v"), switches="first_block_cache = 0.5")
    undisturbed = film(make_engine(model, "cpu"), request(steps=8))
    segment = request(steps=8, checkpoint_dir=tmp_path, key="k")
    with pytest.raises(Stopped):
        film(make_engine(model, "cpu"), segment, stop_at(5))
    again = make_engine(model, "cpu")
    np.testing.assert_array_equal(film(again, segment), undisturbed)
    assert again.meter.resumed_from_step == 0
