"""Joined clips: every frame once, at its time, and nothing encoded that need not be."""

import subprocess
import wave
from fractions import Fraction
from pathlib import Path

import av
import ffmpeg
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.workers.film.clips import last_frames, numbers_in, write_clip
from workers.film.encoding import FilmError
from workers.film.ffmpeg import ffmpeg_binary, run
from workers.film.join import cut, is_yuv420p, join
from workers.film.measure import measure
from workers.film.sound_file import read_sound
from workers.film.soundtrack import sample_at


def packets_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as film:
        return [bytes(packet) for packet in film.demux(video=0) if packet.size]


def moments_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as film:
        return [packet.pts * packet.time_base for packet in film.demux(video=0) if packet.size]


def write_wave(path: Path, seconds: float) -> Path:
    samples = (np.sin(np.arange(int(48_000 * seconds)) / 20) * 8000).astype("<i2")
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(48_000)
        sound.writeframes(samples.tobytes())
    return path


@pytest.mark.parametrize("fps", [Fraction(16), Fraction(24), Fraction(30_000, 1001)])
def test_a_cut_copies_every_packet(tmp_path: Path, fps: Fraction) -> None:
    lengths = [33, 1, 50]
    clips = [write_clip(tmp_path / f"it's {n} %d.mp4", numbers=range(n, n + k), fps=fps) for n, k in enumerate(lengths)]
    assert join(clips, tmp_path / "film.mp4") == 84
    film = measure(tmp_path / "film.mp4")
    assert (film.frames, film.fps) == (84, fps)
    assert packets_of(tmp_path / "film.mp4") == [packet for clip in clips for packet in packets_of(clip)]
    assert moments_of(tmp_path / "film.mp4") == [number / fps for number in range(84)]
    assert numbers_in(tmp_path / "film.mp4") == [k for n, length in enumerate(lengths) for k in range(n, n + length)]


def test_clips_of_different_headers_still_make_one_film(tmp_path: Path) -> None:
    """A retake after an upgrade: the same size and rate, but not the same encoder settings."""
    ours = write_clip(tmp_path / "ours.mp4", numbers=range(30))
    other = ffmpeg.input(str(ours)).output(
        str(tmp_path / "other.mp4"),
        **{"c:v": "libx264", "profile:v": "main", "refs": 3, "bf": 0, "qp": 10, "video_track_timescale": 12_000},
    )
    run(other, seconds_max=60)
    join([ours, tmp_path / "other.mp4", ours], tmp_path / "film.mp4")
    film = measure(tmp_path / "film.mp4")
    assert (film.frames, film.fps) == (90, 24)
    assert numbers_in(tmp_path / "film.mp4") == [*range(30)] * 3
    samples = np.full((sample_at(90, Fraction(24)), 2), 0.25, np.float32)
    join([ours, tmp_path / "other.mp4", ours], tmp_path / "heard.mp4", audio=samples)
    heard = measure(tmp_path / "heard.mp4")
    assert (heard.frames, heard.audio_seconds) == (90, heard.seconds)
    # The pictures of the joined film can be copied once more as they are.
    join([tmp_path / "film.mp4"], tmp_path / "again.mp4", audio=samples)
    assert measure(tmp_path / "again.mp4", decodes_pictures=False).as_copy_of(film).audio_seconds == heard.audio_seconds


def test_the_film_can_start_before_it_is_downloaded(tmp_path: Path) -> None:
    join([write_clip(tmp_path / "clip.mp4", numbers=range(9))], tmp_path / "film.mp4")
    head = (tmp_path / "film.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")


def test_only_the_film_is_left_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    clips = [write_clip(tmp_path / f"{n}.mp4", numbers=range(20)) for n in range(2)]
    join(clips, tmp_path / "out" / "film.mp4", transitions=["crossfade"], crossfade_frames=6)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["film.mp4"]


@pytest.mark.parametrize("has_key_frame", [True, False])
def test_a_crossfade_blends_exactly_its_frames_and_copies_the_rest(tmp_path: Path, has_key_frame: bool) -> None:
    overlap = 8
    keys = (overlap,) if has_key_frame else ()
    clips = [write_clip(tmp_path / f"{n}.mp4", numbers=[0] * 40, base=60 + 120 * n, key_frames=keys) for n in range(2)]
    assert join(clips, tmp_path / "film.mp4", transitions=["crossfade"], crossfade_frames=overlap) == 72
    film = measure(tmp_path / "film.mp4")
    assert (film.frames, film.fps) == (72, 24)
    ground = last_frames(tmp_path / "film.mp4", count=72)[:, 80, 64].mean(axis=1)
    expected = [60.0] * 32 + [60 + 120 * k / (overlap + 1) for k in range(1, overlap + 1)] + [180.0] * 32
    assert np.abs(ground - expected).max() <= 3
    # Before the overlap, and behind the first key frame after it, the packets are those of the clips.
    resumes = overlap if has_key_frame else 24
    assert packets_of(tmp_path / "film.mp4")[:32] == packets_of(clips[0])[:32]
    assert packets_of(tmp_path / "film.mp4")[32 + resumes :] == packets_of(clips[1])[resumes:]


def test_a_clip_may_fade_in_and_out(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{n}.mp4", numbers=[n] * k) for n, k in enumerate((20, 12, 20))]
    frames = join(clips, tmp_path / "film.mp4", transitions=["crossfade", "crossfade"], crossfade_frames=6)
    assert frames == measure(tmp_path / "film.mp4").frames == 20 + 12 + 20 - 12


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_storyboard_has_the_frames_that_were_quoted(tmp_path: Path, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(12, 40), min_size=1, max_size=4))
    kinds = data.draw(
        st.lists(st.sampled_from(["cut", "crossfade"]), min_size=len(lengths) - 1, max_size=len(lengths) - 1)
    )
    overlap = data.draw(st.integers(1, 6))
    clips = [
        write_clip(tmp_path / f"{n}.mp4", numbers=range(length), fps=Fraction(16), key_frames=(overlap,))
        for n, length in enumerate(lengths)
    ]
    frames = join(clips, tmp_path / "film.mp4", transitions=kinds, crossfade_frames=overlap)
    film = measure(tmp_path / "film.mp4")
    assert frames == film.frames == sum(lengths) - overlap * kinds.count("crossfade")
    assert film.fps == 16


def test_a_clip_too_short_for_its_crossfades_is_refused(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{n}.mp4", numbers=range(k)) for n, k in enumerate((20, 10, 20))]
    with pytest.raises(FilmError, match=r"too short|too few"):
        join(clips, tmp_path / "film.mp4", transitions=["crossfade", "crossfade"], crossfade_frames=6)
    assert not (tmp_path / "film.mp4").exists()


def test_clips_that_differ_are_not_joined(tmp_path: Path) -> None:
    one = write_clip(tmp_path / "1.mp4", numbers=range(9))
    for other in (
        write_clip(tmp_path / "2.mp4", numbers=range(9), size=(64, 48)),
        write_clip(tmp_path / "3.mp4", numbers=range(9), fps=Fraction(25)),
    ):
        with pytest.raises(FilmError, match="differs"):
            join([one, other], tmp_path / "film.mp4")


def test_what_is_no_clip_is_not_joined(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", numbers=range(9))
    (tmp_path / "text.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    (tmp_path / "half.mp4").write_bytes(clip.read_bytes()[:900])
    for name in ("text.mp4", "half.mp4", "missing.mp4"):
        with pytest.raises(FilmError, match="cannot be read"):
            join([clip, tmp_path / name], tmp_path / "film.mp4")
    with pytest.raises(FilmError, match="0 clips"):
        join([], tmp_path / "film.mp4")
    with pytest.raises(FilmError, match="transitions"):
        join([clip], tmp_path / "film.mp4", transitions=["cut"])


@pytest.mark.parametrize("seconds", [0.5, 2.0, 9.0])
def test_sound_is_as_long_as_the_film(tmp_path: Path, seconds: float) -> None:
    clips = [write_clip(tmp_path / f"{n}.mp4", numbers=range(24)) for n in range(2)]
    sound = write_wave(tmp_path / "sound", seconds)
    join(clips, tmp_path / "film.mp4", audio=sound)
    film = measure(tmp_path / "film.mp4")
    assert film.has_audio
    assert film.audio_seconds == film.seconds == 2
    assert packets_of(tmp_path / "film.mp4") == [packet for clip in clips for packet in packets_of(clip)]


def test_samples_are_encoded_beside_the_copied_pictures(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{n}.mp4", numbers=range(24), fps=Fraction(30_000, 1001)) for n in range(2)]
    count = sample_at(48, Fraction(30_000, 1001))
    samples = np.repeat(0.3 * np.sin(np.arange(count) / 20)[:, None], 2, axis=1).astype(np.float32)
    join(clips, tmp_path / "film.mp4", audio=samples, metadata={"AIGC": "{}"})
    assert packets_of(tmp_path / "film.mp4") == [packet for clip in clips for packet in packets_of(clip)]
    film = measure(tmp_path / "film.mp4")
    assert abs(film.audio_seconds - film.seconds) <= Fraction(1, 1000)
    decoded = read_sound(tmp_path / "film.mp4")[:count]
    assert np.abs(decoded[4800:-4800] - samples[4800:-4800]).max() < 0.02, "neither shifted nor louder"
    head = (tmp_path / "film.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")


def test_the_sound_of_another_film_can_be_laid_under_this_one(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", numbers=range(24))
    join([clip], tmp_path / "with.mp4", audio=write_wave(tmp_path / "sound.wav", 1))
    join([clip], tmp_path / "film.mp4", audio=tmp_path / "with.mp4")
    assert measure(tmp_path / "film.mp4").has_audio
    (tmp_path / "text").write_text("#EXTM3U\n")
    with pytest.raises(FilmError, match="no sound"):
        join([clip], tmp_path / "film.mp4", audio=tmp_path / "text")


def test_tags_are_written_as_they_are(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", numbers=range(9))
    tags = {"comment": "a=b; 'c'", "AIGC": '{"Label": "1", "ContentProducer": "cinemeter"}'}
    join([clip], tmp_path / "film.mp4", metadata=tags)
    with av.open(str(tmp_path / "film.mp4")) as film:
        assert {name: film.metadata[name] for name in tags} == tags


def test_a_cut_keeps_the_first_frames(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", numbers=range(60))
    for frames in (1, 23, 24, 25, 60):
        cut(clip, tmp_path / "part.mp4", frames=frames)
        part = measure(tmp_path / "part.mp4")
        assert (part.frames, part.fps) == (frames, 24)
        assert numbers_in(tmp_path / "part.mp4") == list(range(frames))
    for frames in (0, 61):
        with pytest.raises(FilmError, match="cannot be cut out"):
            cut(clip, tmp_path / "part.mp4", frames=frames)


@pytest.mark.parametrize(
    "options",
    [["-bf", "2", "-pix_fmt", "yuv420p"], ["-bf", "0", "-pix_fmt", "yuv444p"], ["-bf", "0", "-pix_fmt", "yuv420p10le"]],
    ids=["reordered", "4:4:4", "ten bits"],
)
def test_a_clip_that_is_encoded_otherwise_is_refused(tmp_path: Path, options: list[str]) -> None:
    foreign = tmp_path / "foreign.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=size=128x96:rate=24:duration=1", "-c:v", "libx264"]
    subprocess.run([ffmpeg_binary(), "-v", "error", *source, *options, str(foreign)], check=True)
    with pytest.raises(FilmError, match="is not a clip of evenly spaced"):
        join([foreign], tmp_path / "film.mp4")


def test_a_header_that_is_none_announces_nothing() -> None:
    assert not is_yuv420p(b"")
    assert not is_yuv420p(b"\x00" * 40)
