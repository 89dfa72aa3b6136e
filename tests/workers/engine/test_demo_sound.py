"""The demo model's sound: heard from its pictures, which it leaves as they are, and going on with the shot."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.catalog.errors import CatalogError
from app.catalog.models import parse_model, require_model
from tests.workers.engine.segment_requests import film, request
from workers.engine import Continuation, Engine, SegmentRequest, make_engine
from workers.engine.sound import SOUND_RATE


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = make_engine(require_model("demo"))
    engine.load()
    yield engine
    engine.close()


def bouncing(**changes: Any) -> SegmentRequest:
    words = {
        "prompt": "a red circle bounces on a blue background",
        "width": 112,
        "height": 64,
        "steps": 8,
        "frames": 24,
    }
    return request(**{**words, **changes})


def test_the_sound_changes_no_picture_and_lasts_as_long(engine: Engine) -> None:
    silent = film(engine, bouncing())
    assert engine.sound is None
    sounding = film(engine, bouncing(sound=True))
    np.testing.assert_array_equal(silent, sounding)
    assert engine.sound is not None
    assert (engine.sound.rate, len(engine.sound.samples)) == (SOUND_RATE, 3 * SOUND_RATE)
    assert np.abs(engine.sound.samples).max() > 0.05
    again = engine.sound.samples
    film(engine, bouncing(sound=True))
    np.testing.assert_array_equal(engine.sound.samples, again)


def test_a_film_of_twice_the_native_rate_sounds_the_same(engine: Engine) -> None:
    """The upscaler draws frames between; what is seen in the native ones, and when, stays."""
    film(engine, bouncing(sound=True))
    assert engine.sound is not None
    native = engine.sound.samples
    assert film(engine, bouncing(sound=True, frames=48, fps=16)).shape == (48, 256, 448, 3)
    np.testing.assert_array_equal(engine.sound.samples, native)
    film(engine, bouncing(sound=True, frames=47, fps=16))
    assert len(engine.sound.samples) == round(47 * SOUND_RATE / 16)


def test_a_shot_sounds_on_without_a_step(engine: Engine, tmp_path: Path) -> None:
    film(engine, bouncing(sound=True))
    assert engine.sound is not None
    assert engine.handover is not None
    before = engine.sound.samples
    engine.handover.save(tmp_path / "handover")
    film(engine, bouncing(sound=True, seed=6, handover=Continuation.load(tmp_path / "handover")))
    after = engine.sound.samples
    usual = np.abs(np.diff(np.concatenate([before[-480:], after[:480]]), axis=0)).max(axis=1)
    assert np.abs(after[0] - before[-1]).max() <= 2 * np.median(usual)


def test_a_model_that_cannot_sound_is_not_catalogued_as_one_that_does() -> None:
    demo = Path("app/catalog/demo.toml").read_text(encoding="utf-8")
    with pytest.raises(CatalogError, match="makes no sound"):
        parse_model(demo.replace('vocabulary = "demo"', 'vocabulary = "open"'), "open.toml")
