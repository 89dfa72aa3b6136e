"""After an error, a lack of memory or a cancel, the next render is that of a fresh process, or the process ends."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.engine.conftest import TinyWan
from tests.workers.engine.segment_requests import STEPS, Watcher, film, pictures, request
from tests.workers.engine.tiny_wan import tiny_model
from workers.engine import BadFrames, DoesNotFit, EnginePoisoned, ModelRefused, OutOfMemory, Stopped
from workers.engine.wan import WanEngine


@pytest.fixture
def engine(tiny_wan: TinyWan) -> WanEngine:
    """A loaded engine whose transformer keeps residuals between steps, the kind of state that leaks."""
    loaded = WanEngine(tiny_model("ti2v", tiny_wan("ti2v"), switches="first_block_cache = 0.5"), "cpu")
    loaded.load()
    return loaded


class FailingPart:
    """Makes a part of a loaded model raise at its n-th call, then work again."""

    def __init__(self, part: torch.nn.Module, call: int, error: Exception) -> None:
        self._calls = 0
        self._call = call
        self._error = error
        self._hook = part.register_forward_pre_hook(self)

    def __call__(self, *_: Any) -> None:
        self._calls += 1
        if self._calls == self._call:
            self._hook.remove()
            raise self._error


def test_a_stop_takes_effect_within_one_step(engine: WanEngine) -> None:
    watcher = Watcher(lambda step: watcher.stop() if step == 2 else None)
    with pytest.raises(Stopped):
        film(engine, request(), watcher)
    assert engine.meter.steps == 2
    assert watcher.steps == [(1, STEPS), (2, STEPS)]


def test_a_stop_before_the_render_does_nothing(engine: WanEngine) -> None:
    watcher = Watcher()
    watcher.stop()
    with pytest.raises(Stopped):
        film(engine, request(), watcher)
    assert watcher.steps == []


def test_a_stop_while_decoding_takes_effect_within_one_chunk(engine: WanEngine) -> None:
    watcher = Watcher()
    chunks = engine.render(request(), watcher)
    next(chunks)
    watcher.stop()
    with pytest.raises(Stopped):
        next(chunks)


def test_after_a_stop_the_next_frames_are_those_of_a_fresh_process(engine: WanEngine) -> None:
    fresh = film(engine, request())
    watcher = Watcher(lambda step: watcher.stop())
    with pytest.raises(Stopped):
        film(engine, request(prompt="a blue square", seed=9), watcher)
    np.testing.assert_array_equal(film(engine, request()), fresh)


def test_an_abandoned_render_leaves_nothing_behind(engine: WanEngine) -> None:
    fresh = film(engine, request())
    chunks = engine.render(request(seed=4), Watcher())
    next(chunks)
    chunks.close()
    assert engine.parts.vae._feat_map == [None] * len(engine.parts.vae._feat_map)
    np.testing.assert_array_equal(film(engine, request()), fresh)


@pytest.mark.parametrize(
    ("part", "call"), [("transformer", 3), ("vae.decoder", 2), ("text_encoder", 1), ("vae.encoder", 1)]
)
def test_after_an_error_the_next_frames_are_those_of_a_fresh_process(engine: WanEngine, part: str, call: int) -> None:
    fresh = film(engine, request())
    FailingPart(_part(engine, part), call, RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        film(engine, request(prompt="a blue circle", seed=3, mode="i2v", first_frame=pictures(1)[0]))
    np.testing.assert_array_equal(film(engine, request()), fresh)


@pytest.mark.parametrize("part", ["transformer", "vae.decoder"])
def test_pictures_with_nan_fail_and_leave_nothing_behind(engine: WanEngine, part: str) -> None:
    fresh = film(engine, request())

    def break_once(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        hook.remove()
        first = output[0] if isinstance(output, tuple) else output
        first.flatten()[0] = torch.nan
        return output

    hook = _part(engine, part).register_forward_hook(break_once)
    with pytest.raises(BadFrames):
        film(engine, request(prompt="a blue circle", seed=3))
    np.testing.assert_array_equal(film(engine, request()), fresh)


def _part(engine: WanEngine, name: str) -> torch.nn.Module:
    first, _, rest = name.partition(".")
    part: torch.nn.Module = getattr(engine.parts, first)
    return part.get_submodule(rest)


def _lack_of_host_memory() -> Exception:
    """Return what PyTorch's host allocator really raises."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50, dtype=torch.uint8)
    return raised.value


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), _lack_of_host_memory()], ids=type
)
def test_out_of_memory_leaves_a_proven_process(engine: WanEngine, error: Exception) -> None:
    fresh = film(engine, request())
    FailingPart(_part(engine, "transformer"), 3, error)
    with pytest.raises(OutOfMemory):
        film(engine, request(prompt="a blue circle", seed=3))
    np.testing.assert_array_equal(film(engine, request()), fresh)


def test_a_process_that_fails_its_self_test_is_poisoned(engine: WanEngine) -> None:
    film(engine, request())
    FailingPart(_part(engine, "transformer"), 3, RuntimeError("illegal memory access"))
    with torch.no_grad():
        engine.parts.transformer.proj_out.weight.mul_(-1)
    with pytest.raises(EnginePoisoned):
        film(engine, request(seed=3))


def test_a_process_whose_self_test_raises_is_poisoned(engine: WanEngine) -> None:
    engine.parts.transformer.register_forward_pre_hook(_always_broken)
    with pytest.raises(EnginePoisoned, match="device-side assert"):
        film(engine, request(seed=3))


def test_a_process_that_cannot_be_reset_is_poisoned(engine: WanEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is broken for good raises at the first call that asks it, which is not always the self-test's."""
    FailingPart(_part(engine, "transformer"), 3, RuntimeError("illegal memory access"))
    monkeypatch.setattr(engine, "_free_memory", _always_broken)
    with pytest.raises(EnginePoisoned, match="illegal memory access"):
        film(engine, request(seed=3))


def test_a_render_that_cannot_be_cleared_away_poisons_the_process(engine: WanEngine) -> None:
    engine.parts.vae.clear_cache = _always_broken
    with pytest.raises(EnginePoisoned, match="device-side assert"):
        film(engine, request(seed=3))


def test_a_gpu_that_cannot_be_loaded_onto_needs_a_fresh_process(tiny_wan: TinyWan, tmp_path: Path) -> None:
    with pytest.raises(EnginePoisoned, match="cuda:99"):
        WanEngine(tiny_model("t2v", tiny_wan("t2v")), "cuda:99").load()
    with pytest.raises((OSError, ValueError), match="nowhere"):
        WanEngine(tiny_model("t2v", tmp_path / "nowhere"), "cuda:99").load()


def _always_broken(*_: Any) -> None:
    raise RuntimeError("device-side assert triggered")


def test_the_cache_is_really_a_lossy_one(engine: WanEngine, tiny_wan: TinyWan) -> None:
    exact = WanEngine(tiny_model("ti2v", tiny_wan("ti2v")), "cpu")
    assert not np.array_equal(film(engine, request(steps=8)), film(exact, request(steps=8)))


def test_what_cannot_fit_is_refused_before_it_begins(tiny_wan: TinyWan) -> None:
    model = tiny_model("ti2v", tiny_wan("ti2v"))
    assert model.architecture is not None
    huge = model.architecture.model_copy(update={"transformer_params": 10**15})
    engine = WanEngine(model.model_copy(update={"architecture": huge}), "cpu")
    watcher = Watcher()
    with pytest.raises(DoesNotFit, match="GiB"):
        film(engine, request(), watcher)
    assert watcher.steps == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 60}, "multiples of 16"),
        ({"frames": 0}, "1 to 17 frames"),
        ({"frames": 18}, "1 to 17 frames"),
        ({"mode": "v2v"}, "needs a video"),
        ({"mode": "v2v", "video": pictures(9), "strength": 0.0}, "strength"),
        ({"mode": "extend"}, "needs a video to continue"),
        ({"mode": "i2v", "first_frame": pictures(1)[0][:, :32]}, "first frame is"),
        ({"mode": "i2v", "first_frame": pictures(1)[0].astype(np.float32)}, "first frame is"),
    ],
)
def test_what_the_model_cannot_do_is_refused(tiny_wan: TinyWan, changes: dict[str, Any], message: str) -> None:
    engine = WanEngine(tiny_model("ti2v", tiny_wan("ti2v")), "cpu")
    with pytest.raises(ModelRefused, match=message):
        film(engine, request(**changes))


def test_families_refuse_inputs_that_they_do_not_have(tiny_wan: TinyWan) -> None:
    for family, changes, message in (
        ("i2v", {"mode": "i2v"}, "needs a first frame"),
        ("t2v", {"mode": "t2v", "first_frame": pictures(1)[0]}, "cannot use a first frame"),
        ("i2v", {"mode": "i2v", "first_frame": pictures(1)[0], "last_frame": pictures(1)[0]}, "cannot use a last"),
        ("flf2v", {"mode": "i2v", "first_frame": pictures(1)[0]}, "needs a last frame"),
        ("i2v", {"mode": "t2v"}, "cannot do t2v"),
    ):
        engine = WanEngine(tiny_model(family, tiny_wan(family)), "cpu")
        with pytest.raises(ModelRefused, match=message):
            film(engine, request(**changes))


def test_an_engine_that_was_closed_loads_again(tiny_wan: TinyWan) -> None:
    engine = WanEngine(tiny_model("t2v", tiny_wan("t2v")), "cpu")
    first = film(engine, request())
    engine.close()
    engine.close()
    np.testing.assert_array_equal(film(engine, request()), first)
