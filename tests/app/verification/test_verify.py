"""`POST /v1/verify`: films of the line are found, also when their marks were taken away, and others are not."""

import asyncio
import io
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.types import Message

from app.api import request_body
from app.db import transaction
from app.errors import AppError
from app.jobs.tables import Job
from app.provenance.registry_tables import RegistryFilm
from app.verification.limits import PER_MINUTE, body_slots, fetching_slots, reading_slots
from tests.api_client import World
from tests.app.assets.media_files import make, make_clip, make_picture

# Films are rendered and read here, which takes long while others use the processor.
pytestmark = pytest.mark.timeout(900)
ORDER = {"model": "synthetic", "prompt": "a secret prompt", "seconds": 2, "resolution": "480P"}
# The address of the client of these tests is no IP address.
OWN_MACHINE = "machine:testclient"
ABSENT = {"c2pa": "absent", "aigc": "absent", "watermark": "absent", "registry": "absent"}


def verify(world: World, file: Path) -> dict[str, Any]:
    """The answer to a file that is sent without a key."""
    answer = world.app.post("/v1/verify", files={"file": (file.name, file.read_bytes(), "video/mp4")})
    assert answer.status_code == 200, answer.text
    verification: dict[str, Any] = answer.json()
    assert set(verification) == {"object", "marks", "ids"}
    return verification


def leftovers() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("cinemeter-*") if "verif" in path.name}


@pytest.fixture
def film_id(world: World) -> str:
    """A film that the synthetic engine made through the real line."""
    film_id = str(world.post("/v1/videos", ORDER).json()["id"])
    world.work()
    return film_id


def test_a_film_is_found_also_when_it_was_encoded_again_changed_and_deleted(
    world: World, film_id: str, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(world.get(f"/v1/videos/{film_id}/content").content)
    before = leftovers()
    whole = verify(world, film)
    assert whole["marks"] == {"c2pa": "found", "aigc": "found", "watermark": "found", "registry": "found"}
    assert whole["ids"] == [film_id]

    # Its row stays, and nothing in it needs the film.
    with transaction() as session:
        row = session.get_one(RegistryFilm, film_id)
        job = session.get_one(Job, film_id)
        assert (row.account_id, row.test, row.model, row.mark_id) == (world.alice_id, False, "synthetic", job.mark_id)
        assert (row.sha256, row.made_at) == ((job.film or {})["sha256"], job.finished_at)
        assert row.model_version
        assert len(row.frame_hashes) % 32 == 0 < len(row.frame_hashes)
        assert (row.reused_films, row.policy) == ([], {})
    assert world.delete(f"/v1/videos/{film_id}").status_code == 200

    # Marks in the file are gone, those of the pixels are not.
    again = make(tmp_path / "again.mp4", "-i", str(film), "-map_metadata", "-1", "-c:v", "libx264", "-crf", "28", "-an")
    encoded = verify(world, again)
    assert encoded["marks"] == {"c2pa": "absent", "aigc": "absent", "watermark": "found", "registry": "found"}
    assert encoded["ids"] == [film_id]

    changed = bytearray(film.read_bytes())
    changed[changed.rindex(b"mdat") + 40] ^= 1
    film.write_bytes(changed)
    manipulated = verify(world, film)
    assert (manipulated["marks"]["c2pa"], manipulated["marks"]["aigc"]) == ("broken", "found")
    assert manipulated["ids"] == [film_id]
    assert leftovers() == before, "nothing is kept"


def test_films_that_were_not_made_here_have_no_marks(world: World, film_id: str, tmp_path: Path) -> None:
    for file in (make_clip(tmp_path / "clip.mp4"), make_picture(tmp_path / "picture.png")):
        assert verify(world, file) == {"object": "verification", "marks": ABSENT, "ids": []}


@pytest.mark.deep
def test_a_film_with_shots_of_another_names_both(world: World, tmp_path: Path) -> None:
    shots = [{"prompt": name, "seconds": 2} for name in ("one", "two")]
    first = world.post("/v1/videos", {"model": "synthetic", "resolution": "480P", "shots": shots}).json()["id"]
    world.work()
    second = world.post(f"/v1/videos/{first}/retakes", {"shot": 0, "prompt": "one, better"}).json()["id"]
    world.work()
    film = tmp_path / "film.mp4"
    film.write_bytes(world.get(f"/v1/videos/{second}/content").content)
    verification = verify(world, film)
    assert set(verification["marks"].values()) == {"found"}
    assert verification["ids"] == [second, first], "the film itself, and the one whose shot it shows"
    with transaction() as session:
        assert session.get_one(RegistryFilm, second).reused_films == [first]


def test_films_of_test_keys_and_of_failed_jobs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each delivered film has a row, of test keys too; a job without a film has none."""
    test_film = world.post("/v1/videos", ORDER, key=world.test_key).json()["id"]
    world.work()
    cancelled = world.post("/v1/videos", ORDER).json()["id"]
    assert world.post(f"/v1/videos/{cancelled}/cancel").status_code == 200
    with transaction() as session:
        rows = session.execute(select(RegistryFilm.film_id, RegistryFilm.test)).all()
    assert [tuple(row) for row in rows] == [(test_film, True)]


def test_a_url_is_fetched_by_the_guarded_fetcher_only(world: World) -> None:
    for url in ("http://127.0.0.1:9/film.mp4", "file:///etc/passwd", "http://169.254.169.254/latest"):
        answer = world.app.post("/v1/verify", json={"url": url})
        assert (answer.status_code, answer.json()["code"]) == (422, "url_refused"), answer.text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"json": {}}, "url"),
        ({"json": {"url": "https://example.com/", "key": "x"}}, "key"),
        ({"json": {"url": "x" * 5000}}, "url"),
        ({"files": {"clip": ("a.mp4", b"x")}}, "file"),
        ({"files": {"file": ("a.mp4", b"x")}, "data": {"more": "y"}}, "file"),
        ({"files": {"file": ("a.mp4", b"not a film")}}, "file"),
    ],
    ids=["nothing", "unknown field", "long URL", "wrong name", "more fields", "no film"],
)
def test_what_cannot_be_verified_is_refused(world: World, body: dict[str, Any], field: str) -> None:
    answer = world.app.post("/v1/verify", **body)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


def test_a_few_files_are_read_at_once_and_the_next_is_sent_away(world: World, tmp_path: Path) -> None:
    file = make_picture(tmp_path / "picture.png").read_bytes()
    picture = {"file": ("a.png", io.BytesIO(file), "image/png")}
    with reading_slots.hold("machine:192.0.2.1"), reading_slots.hold("machine:192.0.2.2"):
        refused = world.app.post("/v1/verify", files=picture)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert int(refused.headers["retry-after"]) > 0
    with ExitStack() as others:
        for number in range(4):
            others.enter_context(fetching_slots.hold(f"machine:192.0.2.{number}"))
        assert world.app.post("/v1/verify", json={"url": "https://example.com/a.mp4"}).status_code == 503


def test_one_machine_has_one_file_read_and_one_large_body_received(world: World, tmp_path: Path) -> None:
    picture = make_picture(tmp_path / "picture.png").read_bytes()
    with reading_slots.hold(OWN_MACHINE):
        second = world.app.post("/v1/verify", files={"file": ("a.png", picture, "image/png")})
    large = {"file": ("a.mp4", bytes(2**20 + 1), "video/mp4")}
    with body_slots.hold(OWN_MACHINE):
        refused = world.app.post("/v1/verify", files=large)
    for answer in (second, refused):
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert "of this network" in answer.json()["detail"]
    # Those of another machine do not count, and what was held is given back.
    with body_slots.hold("machine:192.0.2.1"):
        assert world.app.post("/v1/verify", files=large).status_code == 422


def test_a_body_must_arrive_within_its_seconds_however_fast_it_is(tmp_path: Path) -> None:
    """As that of a verification: each piece moves the deadline of other bodies."""

    async def receive() -> Message:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": bytes(2**16), "more_body": True}

    with (tmp_path / "body").open("wb") as file, pytest.raises(AppError) as refused:
        asyncio.run(request_body._read(receive, file, 2**60, 0.2))
    assert refused.value.code == "request_timeout"


def test_one_network_verifies_some_files_a_minute(world: World) -> None:
    for _ in range(PER_MINUTE):
        assert world.app.post("/v1/verify", json={}).status_code == 422
    # Refused before the body is looked at.
    refused = world.app.post("/v1/verify", content=b"{", headers={"content-type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["ratelimit-policy"] == f'"verifications";q={PER_MINUTE};w=60'


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(world: World) -> None:
    headers = {"content-length": str(2**28), "content-type": "multipart/form-data; boundary=x"}
    answer = world.app.post("/v1/verify", content=iter([b"--x"]), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
