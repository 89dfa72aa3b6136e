"""Written clips: exact, bounded, and no child process left."""

import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.settings import get_settings
from tests.workers.film.clips import HEIGHT, WIDTH, numbered, numbers_in, write_clip
from workers.film.clip_writer import ClipWriter
from workers.film.encoding import FilmError
from workers.film.ffmpeg import ffmpeg_binary
from workers.film.measure import measure


def writer(path: Path, *, frames: int = 10, **changes: object) -> ClipWriter:
    settings: dict[str, object] = {
        "in_width": WIDTH,
        "in_height": HEIGHT,
        "width": WIDTH,
        "height": HEIGHT,
        "fps": Fraction(24),
    }
    return ClipWriter(path, frames=frames, **{**settings, **changes})  # type: ignore[arg-type]


def pictures(count: int, base: int = 0) -> np.ndarray:
    return np.stack([numbered(number, base) for number in range(count)])


@pytest.mark.parametrize("fps", [Fraction(16), Fraction(24), Fraction(30_000, 1001)])
@pytest.mark.parametrize("size", [(128, 96), (192, 144), (96, 72)])
def test_a_clip_has_its_frames_its_rate_and_its_size(tmp_path: Path, fps: Fraction, size: tuple[int, int]) -> None:
    clip = write_clip(tmp_path / "clip.mp4", numbers=range(33), fps=fps, size=size)
    facts = measure(clip)
    assert (facts.frames, facts.fps, (facts.width, facts.height), facts.codec) == (33, fps, size, "h264")
    assert facts.seconds == 33 / fps
    assert not facts.has_audio
    assert numbers_in(clip) == list(range(33))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_any_cut_into_chunks_gives_the_same_clip(tmp_path: Path, chunks: list[int]) -> None:
    total = sum(chunks)
    with writer(tmp_path / "clip.mp4", frames=total, waiting_bytes_max=3 * WIDTH * HEIGHT * 3) as clip:
        start = 0
        for count in chunks:
            clip.write(np.stack([numbered(number) for number in range(start, start + count)]))
            start += count
    assert numbers_in(tmp_path / "clip.mp4") == list(range(total))


def test_colours_survive_and_are_tagged(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)]
    frames = np.stack([np.full((HEIGHT, WIDTH, 3), colour, np.uint8) for colour in colours])
    with writer(tmp_path / "clip.mp4", frames=len(colours)) as clip:
        clip.write(frames)
    with av.open(str(tmp_path / "clip.mp4")) as film:
        context = film.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
        assert context.pix_fmt == "yuv420p"
        seen = [frame.to_ndarray(format="rgb24")[HEIGHT // 2, WIDTH // 2] for frame in film.decode(video=0)]
    assert np.abs(np.array(seen, int) - np.array(colours)).max() <= 4


def test_clips_of_one_size_share_one_header_whatever_they_show(tmp_path: Path) -> None:
    plain = write_clip(tmp_path / "plain.mp4", numbers=[0] * 20)
    with writer(tmp_path / "noise.mp4", frames=90) as clip:
        clip.write(np.random.default_rng(1).integers(0, 255, (90, HEIGHT, WIDTH, 3)).astype(np.uint8))
    headers = []
    for path in (plain, tmp_path / "noise.mp4"):
        with av.open(str(path)) as film:
            headers.append(film.streams.video[0].codec_context.extradata)
    assert headers[0] == headers[1]


def test_key_frames_stand_where_they_are_asked_for(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", numbers=[5] * 40, key_frames=(8, 31))
    assert {0, 8, 31} <= set(measure(clip).key_frames)


@pytest.mark.parametrize("count", [9, 11])
def test_another_number_of_frames_is_an_error_and_leaves_no_file(tmp_path: Path, count: int) -> None:
    with pytest.raises(FilmError, match=f"has 10 frames and got {count}"):  # noqa: SIM117
        with writer(tmp_path / "clip.mp4") as clip:
            clip.write(pictures(count))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, HEIGHT, WIDTH, 3), np.float32),
        np.zeros((1, HEIGHT, WIDTH + 1, 3), np.uint8),
        np.zeros((HEIGHT, WIDTH, 3), np.uint8),
    ],
)
def test_frames_of_another_shape_or_type_are_refused(tmp_path: Path, frames: np.ndarray) -> None:
    clip = writer(tmp_path / "clip.mp4")
    with pytest.raises(FilmError, match="do not fit"):
        clip.write(frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [{"width": 127}, {"height": 0}, {"frames": 0}, {"fps": Fraction(0)}])
def test_impossible_clips_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(FilmError, match="cannot be made"):
        writer(tmp_path / "clip.mp4", **change)  # type: ignore[arg-type]


def test_abort_kills_ffmpeg_and_removes_what_it_wrote(tmp_path: Path) -> None:
    clip = writer(tmp_path / "clip.mp4")
    clip.write(pictures(5))
    clip.abort()
    clip.abort()
    assert clip._process.poll() is not None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FilmError, match="stopped accepting frames"):
        clip.write(pictures(5))


def test_an_error_inside_the_block_aborts(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writer(tmp_path / "clip.mp4") as clip:  # noqa: PT012
        clip.write(pictures(5))
        raise KeyError
    assert clip._process.poll() is not None
    assert list(tmp_path.iterdir()) == []


def test_abort_from_another_thread_frees_a_waiting_writer(tmp_path: Path) -> None:
    clip = writer(tmp_path / "clip.mp4", frames=10_000, waiting_bytes_max=1)
    clip._process.send_signal(19)  # SIGSTOP: ffmpeg takes nothing more, and the pipe fills.
    failures: list[str] = []
    began = threading.Event()

    def fill() -> None:
        try:
            for _ in range(1000):
                clip.write(pictures(10))
                began.set()
        except FilmError as error:
            failures.append(str(error))

    thread = threading.Thread(target=fill)
    thread.start()
    assert began.wait(10)
    clip.abort()
    thread.join(10)
    assert not thread.is_alive()
    assert "stopped accepting frames" in failures[0]


def test_a_stalled_ffmpeg_is_killed(tmp_path: Path) -> None:
    clip = writer(tmp_path / "clip.mp4", frames=1000, waiting_bytes_max=1, stall_seconds=1.0)
    clip._process.send_signal(19)
    with pytest.raises(FilmError, match="accepted no frame for 1 seconds"):  # noqa: PT012
        for _ in range(100):
            clip.write(pictures(10))
    assert clip._process.poll() is not None


def test_a_killed_ffmpeg_is_an_error_at_the_next_frames(tmp_path: Path) -> None:
    clip = writer(tmp_path / "clip.mp4", frames=1000, waiting_bytes_max=1)
    clip._process.kill()
    with pytest.raises(FilmError):  # noqa: PT012
        for _ in range(100):
            clip.write(pictures(10))


def test_ffmpegs_error_output_is_passed_on(tmp_path: Path) -> None:
    clip = writer(tmp_path / "no such folder" / "clip.mp4")
    with pytest.raises(FilmError, match="No such file or directory"):  # noqa: PT012
        clip.write(pictures(10))
        clip.close()


def test_a_slow_caller_is_no_stall(tmp_path: Path) -> None:
    clip = writer(tmp_path / "clip.mp4", frames=20, waiting_bytes_max=1, stall_seconds=0.6)
    clip.write(pictures(10))
    threading.Event().wait(0.8)  # Longer than a stall may last: here ffmpeg waits for us.
    clip.write(pictures(10))
    clip.close()
    assert measure(tmp_path / "clip.mp4").frames == 20


def test_the_configured_binary_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CINEMETER_FFMPEG", "/opt/ffmpeg")
    get_settings.cache_clear()
    ffmpeg_binary.cache_clear()
    try:
        assert ffmpeg_binary() == "/opt/ffmpeg"
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()
        ffmpeg_binary.cache_clear()
