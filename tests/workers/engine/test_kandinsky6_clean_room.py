"""Kandinsky 6: stop, resume, previews, and that no render leaves anything for the next one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.workers.engine.conftest import TinyKandinsky6
from tests.workers.engine.segment_requests import STEPS, Watcher, film, pictures
from tests.workers.engine.test_clean_room import FailingPart
from tests.workers.engine.test_kandinsky6 import KINDS, segment
from tests.workers.engine.tiny_kandinsky6 import tiny_kandinsky6
from workers.engine import EnginePoisoned, OutOfMemory, SegmentRequest, Stopped, make_engine
from workers.engine.kandinsky6 import Kandinsky6Engine
from workers.engine.request import Frames
from workers.engine.sound import Samples


@pytest.fixture
def engine(tiny_k6: TinyKandinsky6) -> Kandinsky6Engine:
    """A loaded distilled engine."""
    loaded = Kandinsky6Engine(tiny_kandinsky6("distilled", tiny_k6("distilled")), "cpu")
    loaded.load()
    return loaded


def both(engine: Kandinsky6Engine, options: SegmentRequest) -> tuple[Frames, Samples]:
    """Render a request to its end; return its frames and samples."""
    frames = film(engine, options)
    assert engine.sound is not None
    return frames, engine.sound.samples


def stop_at(step: int) -> Watcher:
    """Return a watcher that stops the render after a step."""
    watcher = Watcher(lambda done: watcher.stop() if done == step else None)
    return watcher


@pytest.mark.parametrize("mode", ["t2v", "i2v"])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_render_makes_the_same_picture_and_sound(
    tiny_k6: TinyKandinsky6, tmp_path: Path, kind: str, step: int, mode: str
) -> None:
    model = tiny_kandinsky6(kind, tiny_k6(kind))
    inputs: dict[str, Any] = {"mode": mode, "first_frame": pictures(1)[0] if mode == "i2v" else None}
    kept = segment(kind, checkpoint_dir=tmp_path, key="job/0/0", **inputs)
    watcher, engine = stop_at(step), Kandinsky6Engine(model, "cpu")
    with pytest.raises(Stopped):
        film(engine, kept, watcher)
    assert engine.meter.steps == step, "a stop takes effect within one step"
    assert engine.sound is None
    assert kept.checkpoint_path is not None
    assert {"latents", "sound"} <= set(load_file(kept.checkpoint_path))
    fresh = Kandinsky6Engine(model, "cpu")
    resumed = both(fresh, kept)
    assert fresh.meter.resumed_from_step == step
    assert fresh.meter.steps == STEPS - step
    undisturbed = both(fresh, segment(kind, **inputs))
    np.testing.assert_array_equal(resumed[0], undisturbed[0])
    np.testing.assert_array_equal(resumed[1], undisturbed[1])


@pytest.mark.parametrize(
    "changes",
    [{"seed": 5}, {"fps": 12}, {"frames": 13}, {"prompt": "a blue square"}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_checkpoint_of_another_render_is_refused(
    engine: Kandinsky6Engine, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(Stopped):
        film(engine, segment("distilled", checkpoint_dir=tmp_path, key="k"), stop_at(2))
    both(engine, segment("distilled", checkpoint_dir=tmp_path, key="k", **changes))
    assert engine.meter.resumed_from_step == 0


def test_each_step_is_reported_with_a_preview(engine: Kandinsky6Engine) -> None:
    watcher = Watcher()
    film(engine, segment("distilled", mode="i2v", first_frame=pictures(1)[0]), watcher)
    assert watcher.steps == [(step, STEPS) for step in range(1, STEPS + 1)]
    assert all(each is not None and each.shape == (4, 8, 3) and each.dtype == np.uint8 for each in watcher.previews)


def test_a_stop_while_decoding_takes_effect_within_one_chunk(engine: Kandinsky6Engine) -> None:
    watcher = Watcher()
    chunks = engine.render(segment("distilled", frames=33, steps=1), watcher)
    next(chunks)
    watcher.stop()
    with pytest.raises(Stopped):
        next(chunks)


def test_a_stop_before_the_sound_makes_none(engine: Kandinsky6Engine) -> None:
    watcher = Watcher()
    chunks = engine.render(segment("distilled", steps=1), watcher)
    next(chunks)
    watcher.stop()
    with pytest.raises(Stopped):
        next(chunks)
    assert engine.sound is None


@pytest.mark.parametrize(
    ("part", "call"),
    [("transformer", 2), ("vae.decoder", 1), ("text_encoder", 1), ("vae.encoder", 1), ("audio_vae.vae.decoder", 1)],
)
def test_after_an_error_the_next_render_is_that_of_a_fresh_process(
    engine: Kandinsky6Engine, part: str, call: int
) -> None:
    before = both(engine, segment("distilled"))
    first, _, rest = part.partition(".")
    module: torch.nn.Module = getattr(engine.parts, first)
    FailingPart(module.get_submodule(rest), call, RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        film(engine, segment("distilled", prompt="blue", seed=3, mode="i2v", first_frame=pictures(1)[0]))
    assert engine.sound is None
    after = both(engine, segment("distilled"))
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[1])


def test_an_abandoned_render_leaves_nothing_behind(engine: Kandinsky6Engine) -> None:
    before = both(engine, segment("distilled"))
    chunks = engine.render(segment("distilled", seed=4), Watcher())
    next(chunks)
    chunks.close()
    after = both(engine, segment("distilled"))
    np.testing.assert_array_equal(after[1], before[1])


def test_out_of_memory_leaves_a_proven_process(engine: Kandinsky6Engine) -> None:
    FailingPart(engine.parts.transformer, 2, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(OutOfMemory):
        film(engine, segment("distilled"))


@pytest.mark.parametrize("name", ["transformer", "vae", "vocoder"])
def test_a_process_that_fails_its_self_test_is_poisoned(engine: Kandinsky6Engine, name: str) -> None:
    FailingPart(engine.parts.transformer, 2, RuntimeError("illegal memory access"))
    part: Any = getattr(engine.parts, name)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.mul_(-1.5)
    with pytest.raises(EnginePoisoned):
        film(engine, segment("distilled"))


def test_the_catalogue_family_makes_the_engine(tiny_k6: TinyKandinsky6) -> None:
    engine = make_engine(tiny_kandinsky6("distilled", tiny_k6("distilled")), "cpu")
    assert isinstance(engine, Kandinsky6Engine)
    engine.prefetch(segment("distilled"))
    first = both(engine, segment("distilled", steps=1))
    engine.prefetch(segment("distilled", prompt="blue"))
    engine.close()
    engine.close()
    np.testing.assert_array_equal(both(engine, segment("distilled", steps=1))[1], first[1])
