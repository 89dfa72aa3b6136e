"""Finished films that a checker refuses: they cost nothing, and no page, link, event or other film shows them."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.accounts.tables import Account
from app.db import transaction
from app.dispatch.retention import expired_films, expired_quarantine
from app.events.tables import Event
from app.jobs.links import make_link
from app.jobs.quarantine_tables import QuarantinedFilm
from app.jobs.queue_tables import Unit
from app.jobs.review import POLICY_ACTOR, decide_review, open_review_of
from app.jobs.tables import Job, ReceiptRow
from app.moderation.checked_tables import CheckedFile
from app.moderation.outcomes import Decision
from app.moderation.tables import ModerationOutcome
from app.provenance.registry_tables import RegistryFilm
from app.reports.audit import audit_books
from app.storage import get_storage
from app.wallet.tables import Hold
from tests.api_client import World
from tests.app.moderation.conftest import PolicyWriter
from tests.app.moderation.test_orders import FILM, TASK, answers_of, mcp, wallets
from tests.workers.worker_processes import takes

pytestmark = pytest.mark.xdist_group("service")

SHOTS = [{"prompt": "one", "seconds": 1}, {"prompt": "two", "seconds": 1}]
STORYBOARD = {"model": "synthetic", "resolution": "480P", "shots": SHOTS}


def refused_film(world: World, policy: PolicyWriter, order: dict[str, Any] = FILM, key: str | None = None) -> str:
    server = policy()
    server.flags = True
    job_id = str(world.post("/v1/videos", order, key=key).json()["id"])
    world.work()
    server.flags = False
    return job_id


def files_of(job_id: str) -> list[str]:
    prefixes = [f"{folder}/{job_id}/" for folder in ("films", "takes", "quarantine")]
    return [stat.key for prefix in prefixes for stat in get_storage().list(prefix)]


def test_a_refused_film_costs_nothing_and_is_in_quarantine(
    world: World, policy: PolicyWriter, caplog: pytest.LogCaptureFixture
) -> None:
    wallet = wallets()
    caplog.set_level("INFO", "workers.running_take")
    job_id = refused_film(world, policy, STORYBOARD)
    # What a checker says of a film is no fault of the service: one line, no traceback.
    (line,) = [record for record in caplog.records if record.name == "workers.running_take"]
    assert (line.levelname, line.exc_info) == ("INFO", None)
    assert line.getMessage() == (
        f"The film of take {takes()[-1].id} is not delivered: refuse by http (category violence/graphic, score 0.90)"
    )
    video = world.get(f"/v1/videos/{job_id}").json()
    assert (video["status"], video["error"]["code"]) == ("failed", "content_refused")
    expected = "The film was refused (stage output, category violence/graphic). Nothing is charged."
    assert video["error"]["message"] == expected
    assert wallets() == wallet
    with transaction() as session:
        assert session.scalars(select(Hold.state)).all() == ["released"]
        receipt = session.scalars(select(ReceiptRow)).one()
        assert (receipt.outcome, receipt.total, receipt.film_key, receipt.film_sha256) == ("failed", 0, None, None)
        types = session.scalars(select(Event.type).where(Event.job_id == job_id).order_by(Event.sequence)).all()
        assert types == ["video.created", "video.started", "video.failed"]
        ended = session.scalars(select(Event).where(Event.type == "video.failed")).one()
        assert "content_refused" in ended.body
        assert not any(part in ended.body for part in ("/files/", "/content", "quarantine"))
        row = session.scalars(select(ModerationOutcome)).one()
        assert (row.job_id, row.stage, row.outcome, row.category, row.interface) == (
            job_id, "output", "refuse", "violence/graphic", "native",
        )  # fmt: skip
        assert session.scalar(select(func.count()).select_from(RegistryFilm)) == 0
        film = session.scalars(select(QuarantinedFilm)).one()
        assert audit_books(session) == []
    # Neither the film nor its pictures were ever stored where customers find them.
    assert not [key for key in files_of(job_id) if key.startswith("films/")]
    assert expired_films() == 1
    assert files_of(job_id) == [film.key]


def test_no_known_way_leads_to_a_refused_film(world: World, policy: PolicyWriter, tmp_path: Path) -> None:
    job_id = refused_film(world, policy, STORYBOARD)
    with transaction() as session:
        job = session.get_one(Job, job_id)
        links = [make_link(session, job, variant) for variant in ("video", "thumbnail", "spritesheet", "waveform")]
        film = session.scalars(select(QuarantinedFilm)).one()
    get_storage().get_file(film.key, tmp_path / "film.mp4")
    # Before and after retention has removed its clips.
    for _ in range(2):
        for variant in ("video", "thumbnail", "spritesheet", "waveform"):
            assert world.get(f"/v1/videos/{job_id}/content?variant={variant}").status_code in (404, 410)
        for link in links:
            assert world.get("/" + link.split("/", 3)[3]).status_code in (404, 410)
        assert world.post(f"/v1/videos/{job_id}/remix", {"prompt": "more"}).status_code in (409, 410)
        assert world.post(f"/v1/videos/{job_id}/retakes", {"shot": 0}).status_code in (409, 410)
        for path in ("edits", "extensions"):
            body = {"video": job_id, "prompt": "more", "seconds": 1}
            assert world.post(f"/v1/videos/{path}", body).status_code in (409, 410)
        text = world.get(f"/v1/videos/{job_id}").text + world.get("/v1/videos").text
        text += str(mcp(world, "status", {"video_id": job_id}))
        text += world.get(f"/api/v1/tasks/{job_id}").text + world.get(f"/replicate/v1/predictions/{job_id}").text
        assert "/content" not in re.sub(r"\s", "", text)
        assert "/files/" not in text
        expired_films()
    # Its owner, who may have seen the file elsewhere, cannot reuse it by its bytes.
    upload = {"video": ("film.mp4", (tmp_path / "film.mp4").read_bytes(), "video/mp4")}
    headers = {"Authorization": f"Bearer {world.alice}"}
    answer = world.app.post("/v1/videos/extensions", data={"prompt": "more"}, files=upload, headers=headers)
    assert (answer.status_code, answer.json()["field"]) == (422, "video")
    assert world.delete(f"/v1/videos/{job_id}").status_code == 200
    assert files_of(job_id) == [film.key]


def test_every_interface_says_that_a_film_was_refused_and_links_to_nothing(world: World, policy: PolicyWriter) -> None:
    server = policy()
    server.flags = True
    wallet = wallets()
    task = {**TASK, "input": {"prompt": "bars"}}
    path = "/api/v1/services/aigc/video-generation/video-synthesis"
    answer = world.post(path, task, headers={"X-DashScope-Async": "enable"}).json()
    task_id = answer["output"]["task_id"]
    path = "/replicate/v1/models/cinemeter/synthetic/predictions"
    prediction = world.post(path, {"input": {"prompt": "bars", "seconds": 1}}).json()["id"]
    quote = mcp(world, "quote", {"order": FILM})["structuredContent"]
    tool = mcp(world, "generate", {"quote_id": quote["id"], "confirm_total": quote["total"]})["structuredContent"]
    call = {"prompt": "bars", "n": 1, "duration": 1, "resolution": "832x480"}
    headers = {"ai-model-id": "cinemeter/synthetic"}
    operation = world.post("/v4/ai/video-model/start", call, headers=headers).json()
    group = world.post("/v1/videos", {**FILM, "n": 2}).json()["group"]
    world.work()
    answers = {
        "dashscope": world.get(f"/api/v1/tasks/{task_id}"),
        "replicate": world.get(f"/replicate/v1/predictions/{prediction}"),
        "gateway": world.post("/v4/ai/video-model/status", operation, headers=headers),
        "group": world.get(f"/v1/videos/groups/{group}"),
    }
    assert answers["dashscope"].json()["output"]["task_status"] == "FAILED"
    assert answers["dashscope"].json()["output"]["code"] == "DataInspectionFailed"
    assert answers["replicate"].json()["status"] == "failed"
    texts = [answer.text for answer in answers.values()] + [str(mcp(world, "status", {"video_id": tool["id"]}))]
    assert all("stage output" in text for text in texts), texts
    assert not any(part in text for text in texts for part in ("/files/", "/content", "quarantine")), texts
    assert wallets() == wallet


def test_films_that_pass_and_those_of_test_keys_and_of_cancelled_jobs(world: World, policy: PolicyWriter) -> None:
    server = policy()
    passed = world.post("/v1/videos", FILM).json()["id"]
    world.work()
    assert world.get(f"/v1/videos/{passed}").json()["status"] == "completed"
    assert 1 <= len(server.pictures()) <= 8
    assert world.get(f"/v1/videos/{passed}/content").status_code == 200
    tested = refused_film(world, policy, key=world.test_key)
    assert world.get(f"/v1/videos/{tested}", key=world.test_key).json()["error"]["code"] == "content_refused"
    # Without checks of films, nothing is asked.
    server = policy(more="[pictures]\noutput = false")
    before = len(server.pictures())
    film = world.post("/v1/videos", {**FILM, "prompt": "other bars"}).json()["id"]
    world.work()
    assert world.get(f"/v1/videos/{film}").json()["status"] == "completed"
    assert len(server.pictures()) == before


def test_a_film_that_cannot_be_checked_is_tried_again_or_delivered_by_the_policy(
    world: World, policy: PolicyWriter, caplog: pytest.LogCaptureFixture
) -> None:
    server, answers = policy(), answers_of("output")
    server.fails = True
    job_id = world.post("/v1/videos", FILM).json()["id"]
    world.work()
    failed = takes()[-1]
    assert (failed.kind, failed.state, failed.error_code) == ("finish", "failed", "check_failed")
    assert world.get(f"/v1/videos/{job_id}").json()["status"] == "in_progress"
    (line,) = [record for record in caplog.records if record.name == "workers.running_take"]
    assert (line.levelname, line.exc_info) == ("WARNING", None)
    answers["failed"] += 1
    assert answers_of("output") == answers
    server.fails = False
    with transaction() as session:
        session.execute(update(Unit).where(Unit.job_id == job_id).values(not_before=None))
    world.work()
    assert world.get(f"/v1/videos/{job_id}").json()["status"] == "completed"
    answers["answered"] += 1
    assert answers_of("output") == answers
    server = policy(on_failure="open")
    server.fails = True
    other = world.post("/v1/videos", {**FILM, "prompt": "other bars"}).json()["id"]
    world.work()
    assert world.get(f"/v1/videos/{other}").json()["status"] == "completed"
    with transaction() as session:
        row = session.scalars(select(ModerationOutcome)).one()
        assert (row.job_id, row.stage, row.outcome, row.category) == (other, "output", "allow", "unchecked")
        films = [session.get_one(Job, each) for each in (job_id, other)]
        checked = session.scalars(select(CheckedFile.sha256)).all()
        assert checked == [(films[0].film or {})["sha256"]]


def test_a_film_that_a_moderator_allows_is_delivered_and_one_that_he_refuses_is_not(
    world: World, policy: PolicyWriter
) -> None:
    server = policy(review=["violence", "violence/graphic"])
    server.flags = True
    wallet = wallets()
    jobs = [world.post("/v1/videos", {**FILM, "prompt": f"bars {number}"}).json()["id"] for number in range(2)]
    world.work()
    for job_id in jobs:
        video = world.get(f"/v1/videos/{job_id}").json()
        assert (video["status"], video["stage"], video["video_url"]) == ("in_progress", "moderating", None), video
        assert {key.split("/")[0] for key in files_of(job_id)} == {"takes", "quarantine"}
        assert world.get(f"/v1/videos/{job_id}/content").status_code == 409
    for job_id, decision in zip(jobs, (Decision.ALLOW, Decision.REFUSE), strict=True):
        with transaction() as session:
            review = open_review_of(session, job_id)
            assert review is not None
            assert (review.stage, review.category) == ("output", "violence/graphic")
            decide_review(session, POLICY_ACTOR, review.id, decision, reason="seen")
    # Whatever the policy says by now: somebody has decided.
    policy()
    world.work()
    allowed, refused = (world.get(f"/v1/videos/{job_id}").json() for job_id in jobs)
    assert allowed["status"] == "completed"
    assert world.get(f"/v1/videos/{jobs[0]}/content").status_code == 200
    assert (refused["status"], refused["error"]["code"]) == ("failed", "content_refused")
    expired_films()
    expired_quarantine()
    assert "quarantine" not in {key.split("/")[0] for key in files_of(jobs[0])}
    assert [key.split("/")[0] for key in files_of(jobs[1])] == ["quarantine"]
    assert wallets() != wallet
    with transaction() as session:
        assert audit_books(session) == []


def test_a_film_that_was_allowed_unchecked_is_stopped_for_what_it_shows(world: World, policy: PolicyWriter) -> None:
    server = policy(on_failure="review", review=["violence", "violence/graphic"])
    server.fails = True
    job_id = world.post("/v1/videos", FILM).json()["id"]
    for category in ("unchecked", "violence/graphic"):
        world.work()
        with transaction() as session:
            review = open_review_of(session, job_id)
            assert review is not None
            assert review.category == category
            decide_review(session, POLICY_ACTOR, review.id, Decision.ALLOW, reason="seen")
        server.fails, server.flags = False, True
    world.work()
    assert world.get(f"/v1/videos/{job_id}").json()["status"] == "completed"


def test_a_strict_account_has_no_reviews(world: World, policy: PolicyWriter) -> None:
    server = policy(review=["violence", "violence/graphic"])
    server.flags = True
    with transaction() as session:
        session.execute(update(Account).where(Account.id == world.alice_id).values(moderation_level="strict"))
    job_id = world.post("/v1/videos", FILM).json()["id"]
    world.work()
    assert world.get(f"/v1/videos/{job_id}").json()["error"]["code"] == "content_refused"
