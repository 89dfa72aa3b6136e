"""The registry: films are found by the hash of a file, by a watermark's number, and by frames that look alike."""

from datetime import UTC, datetime

import numpy as np
import pytest
from sqlalchemy.orm import Session

from app.provenance.frame_hashes import hash_parts
from app.provenance.registry import RegistryMatch, find_films
from app.provenance.registry_tables import RegistryFilm
from tests.app.provenance.test_pdq import random_hashes


def add_film(
    session: Session,
    film_id: str,
    *,
    sha256: str = "",
    mark_id: int | None = None,
    hashes: bytes = b"",
    test: bool = False,
) -> None:
    session.add(
        RegistryFilm(
            film_id=film_id,
            account_id="acct_1",
            test=test,
            sha256=sha256 or film_id,
            mark_id=mark_id,
            frame_hashes=hashes,
            hash_parts=hash_parts(hashes),
            model="synthetic",
            model_version="1",
            reused_films=[],
            policy={},
            made_at=datetime(2026, 11, 30, tzinfo=UTC),
        )
    )
    session.flush()


def spoiled(hashes: bytes, bits: int, seed: int = 1) -> bytes:
    """The hashes, each with so many other bits among its last ones."""
    rows = np.frombuffer(hashes, np.uint8).reshape(-1, 32)
    unpacked = np.unpackbits(rows, axis=1)
    unpacked[:, 256 - bits :] ^= 1
    return np.packbits(unpacked, axis=1).tobytes()


def find(
    session: Session, *, sha256: str = "none", mark_ids: tuple[int, ...] = (), hashes: bytes = b""
) -> RegistryMatch:
    return find_films(session, hashes=[sha256], mark_ids=mark_ids, frame_hashes=hashes)


@pytest.fixture
def films(session: Session) -> dict[str, bytes]:
    """Some films with hashes of their own; two of them have the same watermark's number as none."""
    hashes = {f"video_{number}": random_hashes(8, seed=number) for number in range(5)}
    for number, (film_id, own) in enumerate(hashes.items()):
        add_film(session, film_id, sha256=f"{number}" * 64, mark_id=number + 100, hashes=own)
    add_film(session, "video_flat", sha256="f" * 64)
    return hashes


def test_a_file_is_found_by_its_hash(session: Session, films: dict[str, bytes]) -> None:
    assert find(session, sha256="3" * 64).same_file == ("video_3",)
    assert find(session, sha256="a" * 64) == RegistryMatch()


def test_watermarks_name_their_films_the_clearest_first(session: Session, films: dict[str, bytes]) -> None:
    assert find(session, mark_ids=(104, 101, 7)).watermarked == ("video_4", "video_1")


def test_frames_that_look_alike_name_their_film_and_no_other(session: Session, films: dict[str, bytes]) -> None:
    assert find(session, hashes=spoiled(films["video_2"], 31)).similar == ("video_2",)
    assert find(session, hashes=spoiled(films["video_2"], 32)).similar == ()
    assert find(session, hashes=random_hashes(128, seed=99)).similar == ()
    # A part of the film, among frames of others.
    mixed = random_hashes(20, seed=50) + spoiled(films["video_1"], 9)[: 2 * 32] + films["video_4"]
    assert find(session, hashes=mixed).similar == ("video_4", "video_1")


def test_two_frames_of_the_file_that_differ_must_be_like_the_film(session: Session, films: dict[str, bytes]) -> None:
    """A still picture, alone or as a clip, may be what a film was made from: it says of no film that it exists."""
    picture = films["video_0"][:32]
    assert find(session, hashes=picture).similar == ()
    still = picture + spoiled(picture, 1) + spoiled(picture, 20)
    add_film(session, "video_still", hashes=still)
    assert find(session, hashes=still).similar == ()
    assert find(session, hashes=random_hashes(20, seed=50) + still).similar == ()
    assert find(session, hashes=films["video_0"][: 2 * 32]).similar == ("video_0",)


def test_films_of_test_keys_are_not_named_by_their_looks(session: Session) -> None:
    hashes = random_hashes(8, seed=60)
    add_film(session, "video_test", hashes=hashes, sha256="7" * 64, test=True)
    assert find(session, hashes=hashes).similar == ()
    assert find(session, sha256="7" * 64, hashes=hashes).same_file == ("video_test",)


def test_the_films_that_share_most_are_compared_however_many_share_little(session: Session) -> None:
    own = random_hashes(32, seed=80)
    # Each shares a part of one frame, and nothing looks alike.
    for number in range(120):
        stranger = own[:3] + random_hashes(1, seed=1000 + number)[3:]
        add_film(session, f"video_{number:03}", hashes=stranger + random_hashes(1, seed=2000 + number))
    add_film(session, "video_z", hashes=own)
    assert find(session, hashes=own).similar == ("video_z",)
