"""Frames for moderation: sampled in a confined process, of each part of a clip, and of nothing that is hostile."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.assets.limits import RefusedError
from app.assets.sample_frames import sample_frames
from tests.app.assets.media_files import make, make_clip, make_picture, png_header

# As long as may be: a busy machine is no failure of the process.
SECONDS = 60.0


def sample(paths: list[Path], folder: Path, count: int = 4, side_max: int = 64) -> list[list[Path]]:
    folder.mkdir()
    return sample_frames(paths, folder, count=count, side_max=side_max, seconds=SECONDS)


def test_each_part_of_a_clip_is_seen_at_another_moment(tmp_path: Path) -> None:
    """The clip grows brighter from second to second, so the frames tell where they come from."""
    levels = ["-f", "lavfi", "-i", "color=black:s=320x180:r=8:d=8,geq=lum='30*floor(T)+24':cb=128:cr=128"]
    clip = make(tmp_path / "clip.mp4", *levels, "-pix_fmt", "yuv420p")
    picture = make_picture(tmp_path / "picture.png")
    first = sample([clip, picture], tmp_path / "first")
    assert [len(frames) for frames in first] == [4, 1]
    assert [measured(frames[0])[0] for frames in first] == [(64, 36), (64, 40)]
    levels_seen = [measured(frame)[1] for frame in first[0]]
    # Two levels of 32 are in each part, and none is in two.
    assert [level // 64 for level in levels_seen] == [0, 1, 2, 3], levels_seen
    # A short clip has fewer frames than parts, and none twice.
    short = make(tmp_path / "short.mp4", *["-f", "lavfi", "-i", "testsrc2=s=64x64:r=8:d=0.25"], "-pix_fmt", "yuv420p")
    assert len(sample([short], tmp_path / "second", count=32)[0]) == 2


def measured(frame: Path) -> tuple[tuple[int, int], float]:
    """Return the size of a frame, and its mean level from 0 to 255."""
    with Image.open(frame) as picture:
        return picture.size, float(np.asarray(picture.convert("L")).mean())


def test_hostile_files_have_no_frames_and_hide_no_others(tmp_path: Path) -> None:
    good = make_picture(tmp_path / "good.png")
    bomb, cut, text = (tmp_path / name for name in ("bomb.png", "cut.mp4", "text.png"))
    bomb.write_bytes(png_header(30_000, 30_000))
    cut.write_bytes(make_clip(tmp_path / "whole.mp4").read_bytes()[:600])
    text.write_bytes(b"\x89PNG\r\n\x1a\n" + b"#EXTM3U\nfile:///etc/passwd\n")
    assert [len(frames) for frames in sample([bomb, good, cut, text], tmp_path / "out")] == [0, 1, 0, 0]
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n/etc/passwd\n")
    with pytest.raises(RefusedError):
        sample([tmp_path / "list.m3u8"], tmp_path / "other")


@pytest.mark.parametrize("answer", [{"frames": [99]}, {"frames": [1, 1]}, {"frames": [1]}, {"frames": "all"}, [1]])
def test_the_answer_of_a_compromised_process_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    picture = make_picture(tmp_path / "picture.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "00-00.jpg").symlink_to("/etc/passwd")
    done = subprocess.CompletedProcess([], 0, stdout=json.dumps(answer).encode())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(RefusedError):
        sample_frames([picture], tmp_path / "out", count=1, side_max=64, seconds=SECONDS)


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    picture = make_picture(tmp_path / "picture.png")
    (tmp_path / "out").mkdir()
    with pytest.raises(RefusedError, match="too long"):
        sample_frames([picture], tmp_path / "out", count=1, side_max=64, seconds=0.01)
