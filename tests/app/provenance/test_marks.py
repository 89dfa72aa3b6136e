"""The marks of a film: its AIGC label, and the manifest as a verifier judges it that is not the signer."""

import json
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.provenance.aigc import TAG, aigc_label, read_label
from app.provenance.manifest import Ingredient, read_manifest
from app.provenance.mark_state import MarkState
from app.provenance.mp4_tags import read_tags
from app.provenance.read_marks import read_marks
from app.provenance.signing import signing_identity
from tests.app.provenance.marked_films import labelled_film, marked_film, verdict
from workers.film.join import join


def test_the_label_has_the_fields_of_the_standard_in_its_order() -> None:
    assert aigc_label("video_1", "示例") == (
        '{"Label":"1","ContentProducer":"示例","ProduceID":"video_1","ReservedCode1":"",'
        '"ContentPropagator":"","PropagateID":"","ReservedCode2":""}'
    )


def test_a_film_has_both_marks_and_they_agree(tmp_path: Path) -> None:
    film = marked_film(tmp_path)
    marks = read_marks(film, "video/mp4")
    assert (marks.c2pa, marks.aigc) == (MarkState.FOUND, MarkState.FOUND)
    assert marks.facts["aigc_id"] == read_manifest(film, "video/mp4").film_id == "video_1"
    assert marks.facts["source_type"] == "trainedAlgorithmicMedia"


def test_another_verifier_accepts_the_manifest(tmp_path: Path) -> None:
    ingredient = Ingredient("asset_1", "first frame of shot 1", "image/png", {"c2pa": "found"})
    film = marked_film(tmp_path, ingredients=[ingredient], reused_films=["video_0"])
    report = verdict(film, chain=signing_identity().chain)
    assert (report["integrity"], report["signature"], report["hard_binding"]) == ("valid", "valid", "match")
    assert report["trust"]["status"] == "valid_for_supplied_material"
    assert report["validation_results"]["failure"] == []
    assert read_manifest(film, "video/mp4").ingredients == ("asset_1", "video_0")


def test_a_changed_picture_breaks_the_manifest(tmp_path: Path) -> None:
    film = marked_film(tmp_path)
    data = bytearray(film.read_bytes())
    data[data.rindex(b"mdat") + 40] ^= 1
    film.write_bytes(data)
    assert read_manifest(film, "video/mp4").state is MarkState.BROKEN
    assert verdict(film)["integrity"] == "invalid"


def test_copying_the_streams_loses_the_manifest_so_nothing_may_follow_the_signature(tmp_path: Path) -> None:
    join([marked_film(tmp_path)], tmp_path / "copy.mp4")
    marks = read_marks(tmp_path / "copy.mp4", "video/mp4")
    assert (marks.c2pa, marks.aigc) == (MarkState.ABSENT, MarkState.ABSENT)


def test_a_film_without_marks_has_none(tmp_path: Path) -> None:
    marks = read_marks(labelled_film(tmp_path, "video_1"), "video/mp4")
    assert (marks.c2pa, marks.aigc) == (MarkState.ABSENT, MarkState.FOUND)


@pytest.mark.parametrize(
    "texts",
    [["no JSON"], ["[]"], ['{"Label":"4"}'], ['{"Label":"1","ProduceID":7}'], ['{"Label":"1"}'] * 2, ["[" * 100_000]],
    ids=["text", "list", "unknown label", "number", "two labels", "deep"],
)
def test_a_label_that_is_not_of_the_standard_is_broken(texts: list[str]) -> None:
    assert read_label([(TAG, text) for text in texts]).state is MarkState.BROKEN


def test_labels_of_other_producers_are_read(tmp_path: Path) -> None:
    text = json.dumps({"Label": "2", "ContentProducer": "other", "ProduceID": "x", "More": 1}, indent=1)
    label = read_label([("encoder", "Lavf"), (TAG, text)])
    assert (label.state, label.producer, label.content_id) == (MarkState.FOUND, "other", "x")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10_000), change=st.integers(1, 255), cut=st.booleans())
def test_tags_of_a_damaged_file_are_read_or_refused(tmp_path: Path, at: int, change: int, cut: bool) -> None:
    whole = tmp_path / "whole.mp4"
    if not whole.exists():
        shutil.move(labelled_film(tmp_path, "video_1"), whole)
    data = bytearray(whole.read_bytes())
    at %= data.index(b"mdat")
    data[at] ^= change
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data[:at] if cut else data)
    try:
        assert isinstance(read_tags(damaged), list)
    except ValueError as error:
        assert str(error)


def test_a_tag_of_impossible_size_is_refused_without_reading_it(tmp_path: Path) -> None:
    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), kind) + content

    huge = struct.pack(">I4sQ", 1, b"data", 2**62)
    keys = box(b"keys", struct.pack(">II", 0, 1) + box(b"mdta", b"AIGC"))
    meta = box(b"meta", bytes(4) + keys + box(b"ilst", box(b"\0\0\0\1", huge)))
    (tmp_path / "film.mp4").write_bytes(box(b"ftyp", b"isom") + box(b"moov", box(b"udta", meta)))
    with pytest.raises(ValueError, match="impossible size"):
        read_tags(tmp_path / "film.mp4")


@pytest.mark.parametrize(("name", "state"), [(b"AIGC", MarkState.BROKEN), (b"title", MarkState.ABSENT)])
def test_a_damaged_file_has_a_broken_label_only_where_it_has_a_label(
    tmp_path: Path, name: bytes, state: MarkState
) -> None:
    entry = struct.pack(">I4s", 8 + len(name), b"mdta") + name
    keys = struct.pack(">I4sII", 16 + len(entry), b"keys", 0, 1) + entry
    # Its boxes end after the file.
    meta = b"".join(struct.pack(">I4s", 9_999, kind) for kind in (b"moov", b"udta", b"meta")) + bytes(4) + keys
    (tmp_path / "film.mp4").write_bytes(struct.pack(">I4s4s", 12, b"ftyp", b"isom") + meta)
    assert read_marks(tmp_path / "film.mp4", "video/mp4").aigc is state
