"""The sound of joined clips: every click at its frame in the decoded film, one gain, one wave."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.workers.film.clips import HEIGHT, WIDTH, clicks_in, white_frames
from workers.film.clip_writer import ClipWriter
from workers.film.encoding import SOUND_RATE, FilmError
from workers.film.join import Transition, join
from workers.film.loudness import Loudness, gain_for, loudness
from workers.film.measure import measure
from workers.film.sound_file import read_sound, sound_pieces, write_sound
from workers.film.soundtrack import FADE_SAMPLES, ClipSound, Joint, join_sounds, mix_track, sample_at, scale
from workers.film.wave_image import WaveImage

OVERLAP = 6
MILLISECOND = SOUND_RATE // 1000
FILM_RATES = [Fraction(24), Fraction(25), Fraction(30_000, 1001)]


def write_marked(folder: Path, number: int, *, frames: int, marked: int, fps: Fraction) -> ClipSound:
    """Write a clip whose frame `marked` is white, and its sound with a click of 1 ms that begins with that frame."""
    pictures = np.full((frames, HEIGHT, WIDTH, 3), 20, np.uint8)
    pictures[:, : HEIGHT // 4] = 60
    pictures[marked] = 255
    path = folder / f"{number}.mp4"
    size = {"in_width": WIDTH, "in_height": HEIGHT, "width": WIDTH, "height": HEIGHT}
    with ClipWriter(path, **size, fps=fps, frames=frames, key_frames=(OVERLAP, frames - OVERLAP)) as writer:
        writer.write(pictures)
    samples = np.zeros((sample_at(frames, fps), 2), np.float32)
    begin = sample_at(marked, fps)
    samples[begin : begin + MILLISECOND] = 0.5
    write_sound(folder / f"{number}.flac", samples)
    return ClipSound(folder / f"{number}.flac", frames)


@pytest.mark.parametrize("fps", FILM_RATES, ids=str)
@pytest.mark.parametrize("kinds", ["cccccc", "xxxxxx", "cxccxs"])
def test_every_click_lies_within_a_millisecond_of_its_frame(tmp_path: Path, fps: Fraction, kinds: str) -> None:
    lengths, marks = (31, 24, 47, 29, 33, 50, 25), (7, 11, 30, 14, 9, 40, 18)
    joints: list[Joint] = ["cut", *({"c": "cut", "x": "crossfade", "s": "continued"}[kind] for kind in kinds)]  # type: ignore[misc]
    clips = [
        ClipSound(write_marked(tmp_path, n, frames=length, marked=mark, fps=fps).path, length, joint)
        for n, (length, mark, joint) in enumerate(zip(lengths, marks, joints, strict=True))
    ]
    samples = join_sounds(clips, tmp_path / "raw", fps=fps, crossfade_frames=OVERLAP)
    scale(samples, gain_for(loudness(samples)))
    write_sound(tmp_path / "sound.flac", samples)
    transitions: Sequence[Transition] = ["crossfade" if joint == "crossfade" else "cut" for joint in joints[1:]]
    join(
        [tmp_path / f"{n}.mp4" for n in range(7)],
        tmp_path / "film.mp4",
        transitions=transitions,
        crossfade_frames=OVERLAP,
        audio=tmp_path / "sound.flac",
    )
    white, heard = white_frames(tmp_path / "film.mp4"), clicks_in(read_sound(tmp_path / "film.mp4"))
    assert len(white) == len(heard) == 7
    for frame, at in zip(white, heard, strict=True):
        # The click lasts a millisecond from its frame's begin, so its middle is half a millisecond behind it.
        assert abs(at - MILLISECOND / 2 - float(Fraction(frame * SOUND_RATE) / fps)) <= MILLISECOND
    film = measure(tmp_path / "film.mp4")
    assert abs(film.audio_seconds - film.seconds) * SOUND_RATE <= 1
    assert film.audio_peak is not None
    assert not film.silent


def test_a_hundred_clips_drift_by_no_sample(tmp_path: Path) -> None:
    fps = Fraction(30_000, 1001)
    click = np.zeros((sample_at(5, fps), 2), np.float32)
    click[4000] = 1
    write_sound(tmp_path / "clip.flac", click)
    clips = [ClipSound(tmp_path / "clip.flac", 5)] * 100
    film = join_sounds(clips, tmp_path / "raw", fps=fps, crossfade_frames=0)
    assert len(film) == sample_at(500, fps)
    assert np.nonzero(film[:, 0])[0].tolist() == [sample_at(5 * n, fps) + 4000 for n in range(100)]


def tone(count: int, *, phase: float = 0, level: float = 0.5) -> np.ndarray:
    wave = level * np.sin(2 * np.pi * (440 * np.arange(count) / SOUND_RATE + phase))
    return np.repeat(wave[:, None], 2, axis=1).astype(np.float32)


def joined(
    folder: Path, sounds: Sequence[np.ndarray], joint: Joint, *, overlap: int = 0, frames: int = 24
) -> np.ndarray:
    clips = []
    for number, samples in enumerate(sounds):
        write_sound(folder / f"{number}.flac", samples)
        clips.append(ClipSound(folder / f"{number}.flac", 24, joint if number else "cut"))
    return np.array(join_sounds(clips, folder / "raw", fps=Fraction(24), crossfade_frames=overlap))


def test_a_shot_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    whole = tone(2 * SOUND_RATE)
    film = joined(tmp_path, [whole[:SOUND_RATE], whole[SOUND_RATE:]], "continued")
    assert np.abs(film - whole).max() <= 2**-22


@pytest.mark.parametrize("joint", ["cut", "continued"])
def test_a_step_is_faded_away(tmp_path: Path, joint: Joint) -> None:
    film = joined(tmp_path, [tone(SOUND_RATE, phase=0.25), tone(SOUND_RATE, phase=0.75)], joint)
    assert np.abs(np.diff(film, axis=0)).max() < 0.05
    assert np.abs(film[: SOUND_RATE - FADE_SAMPLES] - tone(SOUND_RATE, phase=0.25)[:-FADE_SAMPLES]).max() <= 2**-22


def test_a_crossfade_keeps_the_power(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, (2, SOUND_RATE, 2)).astype(np.float32)
    film = joined(tmp_path, list(noise), "crossfade", overlap=12)
    assert len(film) == SOUND_RATE * 36 // 24
    middle = film[SOUND_RATE // 2 : SOUND_RATE]
    assert 0.09 < np.sqrt((middle[6000:18_000] ** 2).mean()) < 0.11


def test_a_sound_that_ends_early_is_padded_without_a_step(tmp_path: Path) -> None:
    film = joined(tmp_path, [tone(SOUND_RATE - 1500, phase=0.25)] * 2, "cut")
    assert len(film) == 2 * SOUND_RATE
    assert np.abs(np.diff(film[100:], axis=0)).max() < 0.05
    assert not film[-1500:].any()


def test_a_track_is_mixed_with_its_gains(tmp_path: Path) -> None:
    film = joined(tmp_path, [tone(SOUND_RATE), tone(SOUND_RATE)], "continued")
    write_sound(tmp_path / "track.flac", np.full((SOUND_RATE, 2), 0.25, np.float32))
    samples = film.copy()
    mix_track(samples, tmp_path / "track.flac", sound_gain=-20, audio_gain=6, buffer=tmp_path / "track.f32")
    assert np.abs(samples[:SOUND_RATE] - (film[:SOUND_RATE] / 10 + 0.25 * 10**0.3)).max() < 1e-4
    assert np.abs(samples[SOUND_RATE:] - film[SOUND_RATE:] / 10).max() < 1e-4, "a short track ends in silence"


def test_a_track_with_a_broken_header_is_refused(tmp_path: Path) -> None:
    film = tone(SOUND_RATE)
    for name, content in {
        "text": b"no sound",
        "wave": b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff" + bytes(99),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FilmError):
            mix_track(film, tmp_path / name, sound_gain=0, audio_gain=0, buffer=tmp_path / "track.f32")
        with pytest.raises(FilmError):
            list(sound_pieces(tmp_path / name))


@pytest.mark.parametrize(
    ("integrated", "peak", "gain"),
    [
        (-20.0, -12.0, 6.0),
        (-40.0, -30.0, 12.0),
        (-20.0, -3.0, 1.95),
        (-8.0, -2.0, -6.0),
        (-51.0, -40.0, 0.0),
        (-70.0, -float("inf"), 0.0),
        (-55.0, 0.5, -1.55),
    ],
)
def test_one_gain_towards_the_usual_loudness(integrated: float, peak: float, gain: float) -> None:
    assert gain_for(Loudness(integrated, peak)) == pytest.approx(gain)


def test_the_loudness_of_known_sounds() -> None:
    """EBU Tech 3341, test 1: a stereo sine of 1 kHz at −23 dBFS has −23 LUFS."""
    seconds = np.arange(20 * SOUND_RATE) / SOUND_RATE
    wave = (10 ** (-23 / 20) * np.sin(2 * np.pi * 1000 * seconds)).astype(np.float32)
    measured = loudness(np.repeat(wave[:, None], 2, axis=1))
    assert measured.integrated == pytest.approx(-23, abs=0.1)
    assert measured.true_peak == pytest.approx(-23, abs=0.1)
    assert gain_for(loudness(np.zeros((SOUND_RATE, 2), np.float32))) == 0
    assert gain_for(loudness(np.zeros((0, 2), np.float32))) == 0


def test_a_peak_between_and_beyond_samples_is_measured() -> None:
    # A quarter of the rate, half a sample aside: each sample has 0.707 of the wave's height, here of 1.5.
    wave = 1.5 * np.hanning(SOUND_RATE) * np.sin(2 * np.pi * (np.arange(SOUND_RATE) / 4 + 0.125))
    peak = loudness(np.repeat(wave[:, None], 2, axis=1).astype(np.float32)).true_peak
    assert peak == pytest.approx(20 * np.log10(1.5), abs=0.1)
    # The last samples of a sound that ends within a tenth of a second count too.
    late = np.zeros((SOUND_RATE + 1000, 2), np.float32)
    late[-500:] = 0.9
    assert loudness(late).true_peak > -1.5


def test_the_wave_shows_where_a_film_is_loud(tmp_path: Path) -> None:
    sound = np.concatenate([tone(SOUND_RATE), np.zeros((SOUND_RATE, 2), np.float32)])
    wave = WaveImage(len(sound))
    for start in range(0, len(sound), 1000):
        wave.read(sound[start : start + 1000])
    wave.write(tmp_path / "wave.png")
    with Image.open(tmp_path / "wave.png") as picture:
        alpha = np.asarray(picture)[..., 3]
    heights = (alpha > 0).sum(axis=0)
    assert heights[100] > 40
    assert 1 <= heights[1100] <= 2
