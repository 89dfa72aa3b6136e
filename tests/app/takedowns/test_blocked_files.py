"""The file of a film that was removed cannot be uploaded again, on any way in, by anybody."""

import base64
import hashlib

import httpx
import pytest
from sqlalchemy import func, select

from app.audit_log.actor import Actor
from app.audit_log.tables import AuditEntry
from app.db import transaction
from app.dispatch.retention import expired_films
from app.errors import AppError
from app.events.tables import Event
from app.jobs.tables import Job
from app.roles import Role
from app.storage import get_storage
from app.takedowns.decide import find_copies, keep_film, remove_films, stop_films
from app.takedowns.reports import ReportForm, submit_report
from tests.api_client import World
from workers.worker_loop import WorkerLoop

OPERATOR = Actor("member_operator", "page", frozenset({Role.OPERATOR}))
# Its seed decides what it looks like: what looks like a removed film is not made (test_lookalikes.py).
ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P", "seed": 1}
UNLIKE = {**ORDER, "prompt": "noise", "seed": 4}


def submit(film_id: str) -> str:
    form = ReportForm("copyright", film_id, "It is mine.", "Chen Wei", "chen@example.com", is_truthful=True)
    with transaction() as session:
        return submit_report(session, form).id


def remove(report_id: str, *film_ids: str) -> None:
    stop_films(OPERATOR, report_id, film_ids, reason="copyright")
    with transaction() as session:
        remove_films(session, OPERATOR, report_id, film_ids, reason="copyright")


def film_of(world: World, order: dict[str, object] = ORDER) -> tuple[str, bytes]:
    video = world.post("/v1/videos", order).json()["id"]
    world.work()
    film = world.get(f"/v1/videos/{video}/content", follow_redirects=True)
    assert film.status_code == 200
    return video, film.content


def test_a_removed_film_is_gone_and_its_file_does_not_come_back(world: World) -> None:
    video, film = film_of(world)
    report_id = submit(video)
    with transaction() as session:
        assert find_copies(session, video) == []
    remove(report_id, video)
    assert world.get(f"/v1/videos/{video}").status_code == 404
    for key in (world.alice, world.bob):
        answer = world.post("/v1/assets", files={"file": ("a.mp4", film, "video/mp4")}, key=key)
        assert (answer.status_code, answer.json()["code"]) == (422, "asset_refused"), answer.text
        assert "removed from this service after a report" in answer.json()["detail"]
        assert world.get("/v1/assets", key=key).json()["data"] == []
    sent = {"filename": "a.mp4", "content_type": "video/mp4", "bytes": len(film), "kind": "clip"}
    upload = world.post("/v1/assets/uploads", sent).json()
    path = httpx.URL(upload["upload"]["url"]).raw_path.decode()
    assert world.app.put(path, content=film, headers=upload["upload"]["headers"]).status_code < 300
    done = world.post(f"/v1/assets/{upload['id']}/confirm")
    assert done.json()["state"] == "refused", done.text
    expired_films()
    assert list(get_storage().list(f"films/{video}/")) == []
    # Another film is none of that one.
    other = hashlib.sha256(film_of(world, UNLIKE)[1]).hexdigest()
    assert other != hashlib.sha256(film).hexdigest()


def test_who_may_not_decide_changes_nothing(world: World) -> None:
    video, _ = film_of(world)
    report_id = submit(video)
    reader = Actor("member_reader", "page", frozenset({Role.PRICING_APPROVER}))
    with transaction() as session:
        for decide in (
            lambda: remove_films(session, reader, report_id, [video], reason="x"),
            lambda: keep_film(session, reader, report_id, reason="x"),
        ):
            with pytest.raises(AppError) as refused:
                decide()
            assert refused.value.code == "forbidden"
        with pytest.raises(AppError) as missing:
            remove_films(session, OPERATOR, report_id, ["video_" + "0" * 24], reason="x")
        assert (missing.value.code, missing.value.field) == ("not_found", "films")
    assert world.get(f"/v1/videos/{video}").status_code == 200


def test_an_unfinished_film_ends_and_costs_nothing_also_with_a_finished_segment(world: World) -> None:
    shots = [{"prompt": "a", "seconds": 1}, {"prompt": "b", "seconds": 1}]
    order = {name: ORDER[name] for name in ("model", "resolution")}
    video = world.post("/v1/videos", {**order, "shots": shots}).json()["id"]
    # Its segments are rendered, and no worker joins them.
    loop = WorkerLoop("worker-in-test", ["synthetic"])
    loop.open()
    try:
        loop.work()
    finally:
        loop.close()
    assert world.get(f"/v1/videos/{video}").json()["status"] == "in_progress"
    report_id = submit(video)
    remove(report_id, video)
    assert world.get(f"/v1/videos/{video}").status_code == 404
    wallet = world.get("/v1/wallet").json()
    assert (wallet["held"], wallet["available"]) == ("0.00", "1000.00")
    with transaction() as session:
        job = session.get_one(Job, video)
        assert (job.state, job.error_code, job.deleted_at is not None) == ("failed", "content_refused", True)


def test_what_was_made_from_a_film_is_offered_with_it_and_uploads_of_its_file_go_too(world: World) -> None:
    video, film = film_of(world)
    upload = world.post("/v1/assets", files={"file": ("a.mp4", film, "video/mp4")}, key=world.bob).json()
    assert upload["state"] == "ready"
    extension = world.post("/v1/videos/extensions", {"video": video, "prompt": "on", "seconds": 1}).json()
    assert "id" in extension, extension
    with transaction() as session:
        assert extension["id"] in find_copies(session, video)
        assert video in find_copies(session, extension["id"])
    remove(submit(video), video, extension["id"])
    for path in (f"/v1/videos/{video}", f"/v1/videos/{extension['id']}"):
        assert world.get(path).status_code == 404
    assert world.get(f"/v1/assets/{upload['id']}", key=world.bob).status_code == 404
    again = world.post("/v1/assets/from_hash", {"sha256": hashlib.sha256(film).hexdigest()}, key=world.bob)
    assert again.status_code == 404
    sent = f"data:video/mp4;base64,{base64.b64encode(film).decode()}"
    price = world.post("/v1/videos/edits", {"prompt": "x", "video": sent}, key=world.bob)
    assert (price.status_code, price.json()["code"]) == (422, "asset_refused"), price.text


def test_a_film_that_its_owner_deleted_is_blocked_all_the_same(world: World) -> None:
    video, film = film_of(world)
    assert world.delete(f"/v1/videos/{video}").status_code == 200
    remove(submit(video), video)
    answer = world.post("/v1/assets", files={"file": ("a.mp4", film, "video/mp4")})
    assert (answer.status_code, answer.json()["code"]) == (422, "asset_refused")
    # The same film again: its owner is not told twice.
    remove(submit(video), video)
    with transaction() as session:
        assert session.scalar(select(func.count()).where(Event.type == "video.removed")) == 1


def test_a_removal_that_is_refused_ends_no_film(world: World) -> None:
    video = world.post("/v1/videos", ORDER).json()["id"]
    report_id = submit(video)
    for film_ids, code in (([video, "video_" + "0" * 24], "not_found"), ([], "invalid_request")):
        with pytest.raises(AppError) as refused:
            stop_films(OPERATOR, report_id, film_ids, reason="copyright")
        assert refused.value.code == code
    assert world.get(f"/v1/videos/{video}").json()["status"] == "queued"
    stop_films(OPERATOR, report_id, [video], reason="copyright")
    with transaction() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.act == "report.film_ended")).all()
        assert [(entry.subject, entry.facts["report"]) for entry in entries] == [(video, report_id)]
