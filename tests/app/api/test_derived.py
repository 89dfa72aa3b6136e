"""Films made from other films: remixes, retakes, edits and extensions, and what is charged for them."""

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from sqlalchemy import text

from app.cli.migrate import migrations, upgrade
from app.db import get_engine, transaction
from app.dispatch.retention import expired_films
from app.jobs.tables import Job
from app.reports.audit import audit_books
from tests.api_client import World
from tests.factories import units_of
from workers.film.frames import read_frames
from workers.segment_input import read_segment_input
from workers.segment_request import build_segment_request

STORYBOARD: dict[str, Any] = {
    "model": "synthetic",
    "shots": [{"prompt": "one", "seconds": 1}, {"prompt": "two", "seconds": 2}],
    "resolution": "480P",
    "seed": 5,
}


def make(world: World, order: dict[str, Any]) -> dict[str, Any]:
    video = world.post("/v1/videos", order)
    assert video.status_code == 200, video.text
    world.work()
    done: dict[str, Any] = world.get(f"/v1/videos/{video.json()['id']}").json()
    assert done["status"] == "completed", done
    return done


def finish(world: World, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    world.work()
    done: dict[str, Any] = world.get(f"/v1/videos/{answer.json()['id']}").json()
    assert done["status"] == "completed", done
    return done


def test_a_retake_renders_and_bills_one_shot_only(world: World) -> None:
    film = make(world, STORYBOARD)
    retake = finish(world, world.post(f"/v1/videos/{film['id']}/retakes", {"shot": 0, "prompt": "one, better"}))
    assert [shot["prompt"] for shot in retake["shots"]] == ["one, better", "two"]
    assert retake["seconds"] == "3"
    assert retake["parent"] == {"id": film["id"], "kind": "retake"}
    receipt = world.get(f"/v1/videos/{retake['id']}/receipt").json()
    assert receipt["billed_seconds"] == "1"
    one = world.post("/v1/videos/estimates", {**STORYBOARD, "shots": [{"prompt": "x", "seconds": 1}]}).json()
    assert retake["charged"] == one["total"]
    again = finish(world, world.post(f"/v1/videos/{retake['id']}/retakes", {"shot": 1}))
    assert again["seconds"] == "3"
    with transaction() as session:
        assert audit_books(session) == []


def test_receipts_of_films_made_before_an_upgrade_can_still_be_made_again(world: World) -> None:
    film = make(world, STORYBOARD)
    finish(world, world.post(f"/v1/videos/{film['id']}/retakes", {"shot": 0}))
    config = migrations()
    with get_engine().connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0010")
        assert connection.execute(text("SELECT count(*) FROM jobs WHERE film ? 'reused_frames'")).scalar_one() == 0
    upgrade()
    with transaction() as session:
        assert audit_books(session) == []


CROSSFADED: dict[str, Any] = {
    **STORYBOARD,
    "shots": [{"prompt": name, "seconds": 1, "transition": "crossfade"} for name in ("one", "two", "three")],
}


@pytest.mark.parametrize("shot", [0, 1, 2])
def test_a_retake_between_crossfades_is_paid_whole(world: World, shot: int) -> None:
    """Frames that blend an old shot with the new one are charged; those that blend two old shots are not."""
    film = make(world, CROSSFADED)
    assert film["seconds"] == "2"
    retake = finish(world, world.post(f"/v1/videos/{film['id']}/retakes", {"shot": shot}))
    assert retake["seconds"] == "2"
    assert world.get(f"/v1/videos/{retake['id']}/receipt").json()["billed_seconds"] == "1"
    with transaction() as session:
        assert audit_books(session) == []


def test_a_remix_keeps_settings_and_seed(world: World) -> None:
    film = make(world, {"model": "synthetic", "prompt": "one", "seconds": 1, "resolution": "480P", "seed": 9})
    remix = finish(world, world.post(f"/v1/videos/{film['id']}/remix", {"prompt": "other"}))
    assert (remix["remixed_from_video_id"], remix["seed"], remix["prompt"]) == (film["id"], 9, "other")
    board = make(world, STORYBOARD)
    refused = world.post(f"/v1/videos/{board['id']}/remix", {"prompt": "x"})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


def test_an_extension_goes_on_and_bills_what_is_new(world: World) -> None:
    film = make(world, {"model": "synthetic", "prompt": "one", "seconds": 2, "resolution": "480P"})
    longer = finish(
        world, world.post("/v1/videos/extensions", {"prompt": "and on", "seconds": 1, "video": {"id": film["id"]}})
    )
    assert longer["seconds"] == "3"
    (source,) = world.get("/v1/assets").json()["data"]
    sold = world.get(f"/v1/videos/{film['id']}/content").content
    assert source["sha256"] == hashlib.sha256(sold).hexdigest(), "what goes on is the film that was sold, not a copy"
    assert world.get(f"/v1/videos/{longer['id']}/receipt").json()["billed_seconds"] == "1"
    content = world.get(f"/v1/videos/{film['id']}/content").content
    uploaded = world.post(
        "/v1/videos/extensions",
        data={"prompt": "and on", "seconds": "1"},
        files={"video": ("film.mp4", content, "video/mp4")},
    )
    assert finish(world, uploaded)["parent"]["id"] == film["id"]


def test_an_edit_is_as_long_as_its_source(world: World) -> None:
    film = make(world, {"model": "synthetic", "prompt": "one", "seconds": 2, "resolution": "480P"})
    edited = finish(world, world.post("/v1/videos/edits", {"prompt": "as snow", "video": film["id"]}))
    assert (edited["seconds"], edited["resolved"]["mode"]) == ("2", "edit")
    lines = world.get(f"/v1/videos/{edited['id']}/receipt").json()["lines"]
    assert "input_seconds" in {line["key"] for line in lines}


def test_a_derived_order_that_is_repeated_copies_its_film_once(world: World) -> None:
    film = make(world, {"model": "synthetic", "prompt": "one", "seconds": 1, "resolution": "480P"})
    for number, path in enumerate(("extensions", "edits"), 1):
        body = {"prompt": "and on", "video": film["id"]} | ({"seconds": 1} if path == "extensions" else {})
        once = {"Idempotency-Key": path}
        first, again = (world.post(f"/v1/videos/{path}", body, headers=once) for _ in range(2))
        assert (first.status_code, again.status_code) == (200, 200), again.text
        assert first.json()["id"] == again.json()["id"]
        assert first.json()["parent"]["id"] == film["id"]
        assert len(world.get("/v1/assets").json()["data"]) == number


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("retakes", {"shot": 5}, "invalid_request"),
        ("retakes", {"shot": -1}, "invalid_request"),
        ("remix", {"prompt": ""}, "invalid_request"),
    ],
)
def test_what_cannot_be_derived_is_refused(world: World, path: str, body: dict[str, Any], code: str) -> None:
    film = make(world, STORYBOARD)
    assert world.post(f"/v1/videos/{film['id']}/{path}", body).json()["code"] == code
    assert world.post(f"/v1/videos/{film['id']}/{path}", body, key=world.bob).status_code in (404, 422)


def test_a_film_that_another_is_made_from_is_not_deleted_under_it(world: World) -> None:
    film = make(world, STORYBOARD)
    child = world.post(f"/v1/videos/{film['id']}/retakes", {"shot": 0}).json()
    assert world.delete(f"/v1/videos/{film['id']}").json()["code"] == "conflict"
    world.post(f"/v1/videos/{child['id']}/cancel")
    assert world.delete(f"/v1/videos/{film['id']}").json()["deleted"] is True


def test_a_film_is_kept_for_the_retake_of_its_retake(world: World) -> None:
    """The clip that both retakes reuse is the first film's, which is not the parent of the second retake."""
    film = make(world, STORYBOARD)
    second = finish(world, world.post(f"/v1/videos/{film['id']}/retakes", {"shot": 0}))
    third = world.post(f"/v1/videos/{second['id']}/retakes", {"shot": 0}).json()
    refused = world.delete(f"/v1/videos/{film['id']}").json()
    assert (refused["code"], refused["video"]) == ("conflict", third["id"])
    with transaction() as session:
        job = session.get_one(Job, film["id"])
        job.files_expire_at = job.finished_at
    assert expired_films() == 0
    world.work()
    assert world.get(f"/v1/videos/{third['id']}").json()["status"] == "completed"
    assert expired_films() == 1
    assert world.delete(f"/v1/videos/{film['id']}").json()["deleted"] is True


def test_auto_takes_the_cheapest_model_that_can(world: World) -> None:
    priced = world.post("/v1/videos/estimates", {"prompt": "a", "seconds": 1}).json()
    assert priced["resolved"]["model"] == "demo"
    assert Fraction(priced["total"]) > 0
    impossible = world.post("/v1/videos/estimates", {"prompt": "a", "first_frame": "asset_x", "last_frame": "asset_y"})
    assert impossible.json()["code"] in ("not_found", "mode_unsupported")


def test_an_extension_is_shown_the_end_of_the_film_that_it_continues(world: World, tmp_path: Path) -> None:
    film = make(world, {"model": "synthetic", "prompt": "one", "seconds": 2, "resolution": "480P"})
    path = tmp_path / "film.mp4"
    path.write_bytes(world.get(f"/v1/videos/{film['id']}/content").content)
    body = {"prompt": "and on", "seconds": 1, "video": {"id": film["id"]}}
    longer = world.post("/v1/videos/extensions", body).json()
    with transaction() as session:
        [segment] = [each for each in units_of(session, session.get_one(Job, longer["id"])) if each.kind == "segment"]
        work = read_segment_input(session, segment.id)
    clip = build_segment_request(work).video
    assert clip is not None
    whole = read_frames(path, width=416, height=240, fps=Fraction(16), frames_max=100)
    assert len(whole) == 32
    # A clip is encoded anew when it becomes an asset, so the frame is the nearest one and not the same to the bit.
    distances = [np.abs(frame.astype(int) - clip[0].astype(int)).mean() for frame in whole]
    assert int(np.argmin(distances)) == 31


def test_an_extended_film_has_limits_and_its_old_part_is_not_taken_again(world: World) -> None:
    film = make(world, {"model": "synthetic", "prompt": "one", "seconds": 1, "resolution": "480P"})
    longer = finish(
        world, world.post("/v1/videos/extensions", {"prompt": "and on", "seconds": 1, "video": {"id": film["id"]}})
    )
    refused = world.post(f"/v1/videos/{longer['id']}/retakes", {"shot": 0})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    again = finish(world, world.post(f"/v1/videos/{longer['id']}/retakes", {"shot": 1, "prompt": "otherwise"}))
    assert again["seconds"] == "2"
    too_long = world.post("/v1/videos/extensions", {"prompt": "on", "seconds": 61, "video": {"id": film["id"]}})
    assert (too_long.status_code, too_long.json()["field"]) == (422, "seconds")
