"""The synthetic engine: colour bars that show their own number, with the interface of a real engine."""

from dataclasses import replace

import numpy as np
import pytest

from app.catalog.models import VideoModel, require_model
from tests.workers.engine.segment_requests import Watcher, film, request
from workers.engine import Continuation, Engine, EngineControl, ModelRefused, Stopped, make_engine


def synthetic(step_seconds: float = 0.0) -> VideoModel:
    model = require_model("synthetic")
    return model.model_copy(update={"switches": model.switches.model_copy(update={"step_seconds": step_seconds})})


@pytest.fixture
def engine() -> Engine:
    return make_engine(synthetic())


@pytest.mark.parametrize("frames", [1, 8, 9, 40])
def test_exactly_the_asked_frames(engine: Engine, frames: int) -> None:
    output = film(engine, request(frames=frames, width=320, height=180))
    assert output.shape == (frames, 180, 320, 3)
    assert engine.meter.frames == frames
    assert engine.meter.steps == 4


def test_frames_are_decided_by_the_seed_and_their_number(engine: Engine) -> None:
    one, again = film(engine, request(seed=1)), film(engine, request(seed=1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, film(engine, request(seed=2)))
    assert len({frame.tobytes() for frame in one}) == len(one)


def test_a_chain_counts_on(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = film(engine, request(frames=20))
    first = film(engine, request(frames=12))
    assert engine.handover is not None
    path = tmp_path_factory.mktemp("handover") / "h"
    engine.handover.save(path)
    second = film(engine, request(frames=8, handover=Continuation.load(path)))
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    assert engine.handover.segment == 1


def test_a_first_frame_is_shown(engine: Engine) -> None:
    picture = np.full((32, 64, 3), 77, np.uint8)
    output = film(engine, request(mode="i2v", first_frame=picture, frames=1))
    assert (output[0, 0, 10:] == 77).all()
    with pytest.raises(ModelRefused):
        film(engine, request(mode="i2v", first_frame=picture[:10]))


def test_progress_and_stop() -> None:
    watcher = Watcher(lambda step: watcher.stop() if step == 2 else None)
    slow = make_engine(synthetic(step_seconds=0.001))
    with pytest.raises(Stopped):
        film(slow, request(), watcher)
    assert watcher.steps == [(1, 4), (2, 4)]
    assert slow.meter.seconds["denoise"] >= 0.002


def test_a_stop_between_chunks(engine: Engine) -> None:
    control = EngineControl()
    chunks = engine.render(request(frames=20), control)
    next(chunks)
    control.stop()
    with pytest.raises(Stopped):
        next(chunks)


def test_nothing_is_nothing(engine: Engine) -> None:
    with pytest.raises(ModelRefused):
        film(engine, request(frames=0))
    with pytest.raises(ModelRefused):
        film(engine, request(handover=Continuation("synthetic", 0, np.zeros((1, 4, 4, 3), np.float32))))
    engine.prefetch(replace(request(), frames=3))
    engine.load()
    engine.close()
