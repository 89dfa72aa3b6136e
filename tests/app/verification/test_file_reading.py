"""Files of strangers, read in confined processes: what they carry, and what they cannot do."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import c2pa
import numpy as np
import numpy.typing as npt
import pytest

import app.verification.file_reading
from app.assets.limits import RefusedError
from app.provenance.frame_means import FrameMeans, load_means
from app.provenance.mark_state import MarkState
from app.provenance.signing import signing_identity
from app.provenance.watermark import Watermark, heights_for, watermark_key
from app.settings import get_settings
from app.verification.file_reading import FileReading, read_file
from tests.app.assets.media_files import Trap, make_clip, make_picture, png_header
from tests.app.provenance.marked_films import marked_film

pytestmark = pytest.mark.timeout(900)
HEIGHT, WIDTH = 360, 640
FTYP = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CINEMETER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CINEMETER_SECRET", "a secret of this test")
    get_settings.cache_clear()
    yield
    monkeypatch.undo()
    get_settings.cache_clear()


def read(path: Path) -> FileReading:
    folder = path.with_name(path.name + "-out")
    folder.mkdir(exist_ok=True)
    return read_file(path, folder)


def scene(seed: int) -> npt.NDArray[np.uint8]:
    """A picture of soft coloured patches, uint8 [HEIGHT, WIDTH, 3]."""
    patches = np.random.default_rng(seed).integers(40, 216, (9, 16, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.kron(patches, np.ones((40, 40, 1), np.uint8)))


def write_film(path: Path, marks: list[int | None], *, frames: int = 24) -> Path:
    """Encode a film of one scene for each of `marks`, with that watermark in it."""
    with av.open(str(path), "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=24, options={"crf": "20", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number, mark_id in enumerate(marks):
            picture = scene(number)
            shot = np.repeat(picture[None], frames, axis=0)  # [f, H, W, 3]
            if mark_id is not None:
                heights = heights_for(picture)
                shot = Watermark(watermark_key(), mark_id, height=HEIGHT, width=WIDTH, heights=heights).draw(shot)
            for frame in shot:
                film.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        film.mux(stream.encode(None))
    return path


def test_the_watermarks_of_all_shots_are_read_and_frames_are_hashed(tmp_path: Path) -> None:
    reading = read(write_film(tmp_path / "film.mp4", [41, 42]))
    assert (reading.c2pa, reading.aigc, reading.watermark) == (MarkState.ABSENT, MarkState.ABSENT, MarkState.FOUND)
    assert set(reading.mark_ids) == {41, 42}
    # Two in a second.
    assert len(reading.frame_hashes) == 4 * 32


def test_the_process_that_decodes_knows_neither_settings_nor_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    run = subprocess.run

    def remember(command: list[str], **options: Any) -> object:
        if command[0] == sys.executable:
            calls.append((command[2], options))
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", remember)
    read(make_picture(tmp_path / "picture.png"))
    assert [module for module, _ in calls] == ["app.assets.probe.marks", "app.verification.watermark_process"]
    assert all(set(options["env"]) == {"PYTHONPATH", "MALLOC_ARENA_MAX", "LANG"} for _, options in calls)
    assert [options["input"] for _, options in calls] == [b"", watermark_key().hex().encode()]


def test_a_manifest_that_lies_elsewhere_is_not_fetched(tmp_path: Path) -> None:
    plain = make_clip(tmp_path / "plain.mp4")
    definition = json.dumps({"claim_generator_info": [{"name": "other"}], "format": "video/mp4", "assertions": []})
    identity = signing_identity()
    info = c2pa.C2paSignerInfo(identity.algorithm.encode(), identity.chain, identity.key, None)
    with Trap() as trap:
        with (
            c2pa.Context.from_dict({"verify": {"verify_after_sign": False}}) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(definition, context) as builder,
            plain.open("rb") as film,
            (tmp_path / "remote.mp4").open("w+b") as signed,
        ):
            builder.set_no_embed()
            builder.set_remote_url(f"{trap.url}/manifest.c2pa")
            builder.sign(signer, "video/mp4", film, signed)
        assert trap.url.encode() in (tmp_path / "remote.mp4").read_bytes()
        assert read(tmp_path / "remote.mp4").c2pa is MarkState.ABSENT
        assert trap.hits == []


def test_a_damaged_film_still_tells_that_its_manifest_does_not_hold(tmp_path: Path) -> None:
    data = bytearray(marked_film(tmp_path).read_bytes())
    place = data.rindex(b"mdat") + 4
    data[place : place + 4000] = bytes(4000)
    (tmp_path / "damaged.mp4").write_bytes(data)
    reading = read(tmp_path / "damaged.mp4")
    assert (reading.c2pa, reading.aigc) == (MarkState.BROKEN, MarkState.FOUND)


HOSTILE = {
    "script": (b"ffconcat version 1.0\nfile secret.mp4\n", "it is none of"),
    "playlist behind the header of a film": (FTYP + b"#EXTM3U\n#EXTINF:1,\n{trap}/a.ts\n", "damaged"),
    "picture of a gigapixel": (png_header(30_000, 30_000), "pixels"),
    "animation that is none": (b"RIFF\x24\x00\x00\x00WEBPANIM" + b"\xff" * 4000, "damaged"),
    "empty": (b"", "it is none of"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, name: str) -> None:
    body, reason = HOSTILE[name]
    with Trap() as trap:
        (tmp_path / "file").write_bytes(body.replace(b"{trap}", trap.url.encode()))
        with pytest.raises(RefusedError, match=reason):
            read(tmp_path / "file")
        assert trap.hits == []


def test_frames_beyond_the_limit_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    make_clip(tmp_path / "large.mp4", "-preset", "ultrafast", seconds=0.1, size="8192x4320", rate="20")
    with pytest.raises(RefusedError):
        read(tmp_path / "large.mp4")


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"[]",
        b'{"c2pa": "yes"}',
        b'{"pictures": 1, "hashes": "zz"}',
        b'{"hashes": "' + b"0" * 64 * 129 + b'"}',
        b'{"more": 1}',
        json.dumps({"refused": "x" * 1000}).encode(),
    ],
)
def test_the_answer_of_a_compromised_reader_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: bytes
) -> None:
    (tmp_path / "file").write_bytes(FTYP)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=output))
    with pytest.raises(RefusedError, match="cannot be read"):
        read(tmp_path / "file")


def test_a_reader_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.verification.file_reading, "READ_SECONDS", 0.01)
    with pytest.raises(RefusedError, match="takes too long"):
        read(make_picture(tmp_path / "picture.png"))


def test_means_come_back_as_they_were_written_and_others_are_not_read(tmp_path: Path) -> None:
    means = FrameMeans()
    planes = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)
    means.add(0, planes)
    means.add(0, planes)
    means.add(3, planes)
    means.add(3, planes[:, :, :100])
    means.save(tmp_path)
    back = load_means(tmp_path)
    assert [each.shape for each in back] == [(2, HEIGHT, WIDTH)] * 2
    assert np.abs(back[0] - planes[:2]).max() < 0.01
    np.save(tmp_path / "means.npy", np.zeros((1, 2, 360, 100_000), np.uint16))
    with pytest.raises(ValueError, match="impossible size"):
        load_means(tmp_path)
    np.save(tmp_path / "means.npy", np.zeros((1, 2, 360, 640)))
    with pytest.raises(ValueError, match="impossible shape"):
        load_means(tmp_path)
