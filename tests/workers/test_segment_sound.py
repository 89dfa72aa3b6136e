"""Ordered sound: which sound of an engine is refused, and with which error."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from app.catalog.models import require_model
from tests.workers.engine.segment_requests import film, request
from workers.engine import BadSound, Continuation, Sound, make_engine
from workers.engine.sound import SOUND_RATE, sample_count
from workers.engine.synthetic import marked_frame
from workers.film.sound_file import read_sound, write_sound
from workers.running_take import failure_code
from workers.segment_sound import sold_sound


def tone(seconds: float, rate: int = SOUND_RATE) -> Sound:
    wave = np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate).astype(np.float32) / 2
    return Sound(np.stack([wave, -wave], axis=1), rate)


def test_a_sound_that_fits_its_pictures_is_sold() -> None:
    sound = tone(1)
    assert sold_sound(sound, frames=24, fps=24) is sound
    assert sold_sound(tone(0.97), frames=24, fps=24), "causal codecs end a little early"


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (None, "made none"),
        (tone(0.5), "lasts 0.500 seconds, the pictures 1.000"),
        (Sound(np.zeros((48_000, 2), np.float32)), "digital silence"),
        (Sound(np.zeros((0, 2), np.float32)), "lasts 0.000 seconds"),
    ],
    ids=["none", "short", "silent", "empty"],
)
def test_what_is_no_sound_is_not_sold(sound: Sound | None, message: str) -> None:
    with pytest.raises(BadSound, match=message) as caught:
        sold_sound(sound, frames=24, fps=24)
    assert failure_code("segment", caught.value) == "bad_sound"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.5])
def test_an_engine_cannot_make_samples_that_are_none(value: float) -> None:
    samples = np.zeros((480, 2), np.float32)
    samples[7, 1] = value
    with pytest.raises(BadSound):
        Sound(samples)


def test_the_synthetic_engine_clicks_at_its_white_frame() -> None:
    engine = make_engine(require_model("synthetic"))
    frames = film(engine, request(frames=20, width=320, height=180, fps=25, sound=True))
    white = marked_frame(20)
    brightness = frames.mean(axis=(1, 2, 3))
    assert int(brightness.argmax()) == white
    assert engine.sound is not None
    assert len(engine.sound.samples) == sample_count(20, 25)
    (heard,) = np.nonzero(engine.sound.samples[:, 0])
    assert (heard[0], len(heard)) == (white * SOUND_RATE // 25, 48)
    film(engine, request(frames=20))
    assert engine.sound is None, "no sound where none was asked for"


def test_a_hand_over_keeps_the_samples_that_it_repeats(tmp_path: Path) -> None:
    samples = tone(0.1).samples
    before = Continuation("joint", 0, np.zeros((1, 4, 4, 3), np.float32), sound=samples)
    before.save(tmp_path / "handover")
    after = Continuation.load(tmp_path / "handover").sound
    assert after is not None
    np.testing.assert_array_equal(after, samples)


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 48_000])
def test_a_stored_sound_keeps_its_pitch_its_length_and_24_bits(tmp_path: Path, rate: int) -> None:
    sound = tone(1, rate)
    write_sound(tmp_path / "sound.flac", sound.samples, rate=rate)
    stored = read_sound(tmp_path / "sound.flac")
    assert abs(len(stored) - SOUND_RATE) <= 1
    spectrum = np.abs(np.fft.rfft(stored[: SOUND_RATE - 1, 0]))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    if rate == SOUND_RATE:
        assert np.abs(stored - sound.samples).max() <= 2**-23


def test_the_count_of_samples_is_rounded_once() -> None:
    assert sample_count(1001, Fraction(30_000, 1001)) == 1_603_202
