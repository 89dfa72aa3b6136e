"""Orders that wait for a moderator: nothing of them is rendered before the decision, which is made exactly once."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.tables import AuditEntry
from app.clock import now
from app.db import transaction
from app.dispatch.choice import CLAIM_SQL, choice_inputs, has_ready, peek
from app.dispatch.eta import forecast
from app.dispatch.lease import release_take
from app.dispatch.reconcile import StalledJobScan, reconcile_job, stalled_jobs
from app.errors import AppError
from app.events.tables import Event
from app.jobs.cancel import request_cancel
from app.jobs.delete import delete
from app.jobs.find import find_job
from app.jobs.queue_tables import Take, Unit
from app.jobs.review import decide_review, hold_for_review, open_review_of
from app.jobs.tables import Job
from app.moderation.outcomes import CheckStage, Decision, Finding, Outcome
from app.moderation.tables import ModerationOutcome
from app.reports.audit import audit_books
from app.settings import get_settings
from app.wallet.balance import balance
from tests.factories import make_worker
from tests.ledger_simulation import Line

MODERATOR = Actor("mo", "key_mo", frozenset({"moderator"}))
REVIEWED = "undress the woman"
POLICY = """
[rules]
review = ["nudification"]
[review]
hours = 24
priority_hours = 4
at_deadline = "{at_deadline}"
"""


@pytest.fixture
def line(engine: Engine, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Line]:
    use_policy(monkeypatch, tmp_path, "refuse")
    with Session(engine, expire_on_commit=False) as session:
        line = Line(session)
        line.act(lambda: make_worker(session, "worker-1", pools=("finish", "synthetic")))
        yield line
    get_settings.cache_clear()


def use_policy(monkeypatch: pytest.MonkeyPatch, folder: Path, at_deadline: str) -> None:
    file = folder / f"{at_deadline}.toml"
    file.write_text(POLICY.format(at_deadline=at_deadline))
    monkeypatch.setenv("CINEMETER_MODERATION_POLICY", str(file))
    get_settings.cache_clear()


def review_of(line: Line, job_id: str) -> ModerationOutcome:
    line.session.expire_all()
    query = select(ModerationOutcome).where(ModerationOutcome.job_id == job_id)
    return line.session.scalars(query.order_by(ModerationOutcome.first_at.desc())).first()  # type: ignore[return-value]


def decide(line: Line, job_id: str, decision: Decision, reason: str = "Seen.") -> None:
    review = review_of(line, job_id)
    line.act(lambda: decide_review(line.session, MODERATOR, review.id, decision, reason=reason))


def events(line: Line, job_id: str) -> list[str]:
    return list(line.session.scalars(select(Event.type).where(Event.job_id == job_id).order_by(Event.sequence)))


def test_an_order_in_review_is_held_and_no_unit_of_it_can_be_claimed(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, prompt=REVIEWED, seconds=2)
    other = line.order(alice, prompt="bars", seconds=1)
    assert (job.state, job.stage) == ("queued", "moderating")
    assert balance(line.session, alice.account_id).held == job.total + other.total
    assert {unit.state for unit in line.units(job)} == {"blocked"}
    assert line.session.scalars(text("SELECT sum(ready) FROM lanes")).one() == 1
    assert forecast(line.session, job).eta() is None
    assert forecast(line.session, job).position is None
    # Others go on beside it, and the repairs of the scheduler leave it alone.
    line.work()
    assert line.job(other.id).state == "completed"
    line.sweep()
    assert (line.job(job.id).state, line.job(job.id).stage) == ("queued", "moderating")
    assert peek(line.session, "synthetic") is None
    assert not has_ready(line.session, ["synthetic", "finish"], "worker-1")
    review = review_of(line, job.id)
    assert (review.stage, review.outcome, review.category, review.rule) == (
        "prompt", "review", "nudification", "undress-person",
    )  # fmt: skip
    assert job.review_due_at == review.due_at == job.created_at + timedelta(hours=24)
    assert events(line, job.id) == ["video.created"]
    line.check()


def test_the_claim_reads_nothing_of_reviews(line: Line) -> None:
    alice = line.open()
    for _ in range(20):
        line.order(alice, prompt=REVIEWED, seconds=1)
    inputs = choice_inputs("synthetic", None, now(line.session))
    line.session.execute(text("ANALYZE units"))
    plan = line.session.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {CLAIM_SQL.text}"), inputs).scalar_one()
    assert "moderation" not in str(plan)

    def rows(node: dict[str, Any]) -> int:
        own = node["Actual Rows"] * node["Actual Loops"] if node.get("Relation Name") == "units" else 0
        return int(own) + sum(rows(each) for each in node.get("Plans", []))

    assert rows(plan[0]["Plan"]) == 0


def test_an_allowed_order_keeps_its_place_and_is_rendered_and_paid(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, prompt=REVIEWED, seconds=7)
    before = {unit.id: unit.queued_at for unit in line.units(job)}
    line.wait(hours=3)
    decide(line, job.id, Decision.ALLOW, "A fashion film.")
    job = line.job(job.id)
    assert (job.state, job.stage, job.review_due_at) == ("queued", "waiting", None)
    assert {unit.id: unit.queued_at for unit in line.units(job)} == before
    first, *others = sorted(line.units(job), key=lambda unit: unit.position)
    # The segments of a shot render one after the other.
    assert (first.state, {unit.state for unit in others} - {"blocked"}) == ("ready", set())
    assert forecast(line.session, job).position == 0
    line.work()
    job = line.job(job.id)
    assert job.state == "completed"
    assert line.receipt(job.id).total == job.total
    assert events(line, job.id) == ["video.created", "video.started", "video.completed"]
    review = review_of(line, job.id)
    assert (review.decision, review.decided_by, review.reason) == ("allow", "mo", "A fashion film.")
    acts = line.session.scalars(select(AuditEntry.act).where(AuditEntry.subject == review.id)).all()
    assert acts == ["review.allowed"]
    line.check()


def test_a_refused_order_fails_free_with_one_last_event(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, prompt=REVIEWED, seconds=2)
    decide(line, job.id, Decision.REFUSE)
    job = line.job(job.id)
    assert (job.state, job.error_code) == ("failed", "content_refused")
    assert job.error_message == "The prompt was refused (stage prompt, category nudification). Nothing is charged."
    assert {unit.state for unit in line.units(job)} == {"dropped"}
    assert line.receipt(job.id).total == 0
    assert balance(line.session, alice.account_id).held == 0
    assert events(line, job.id) == ["video.created", "video.failed"]
    with pytest.raises(AppError, match="decided already"):
        decide(line, job.id, Decision.ALLOW)
    line.check()


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501])
def test_a_decision_has_a_reason(line: Line, reason: str) -> None:
    job = line.order(line.open(), prompt=REVIEWED, seconds=1)
    with pytest.raises(AppError) as refused:
        decide(line, job.id, Decision.ALLOW, reason)
    assert (refused.value.code, refused.value.field) == ("invalid_request", "reason")
    assert review_of(line, job.id).decision is None


@pytest.mark.parametrize("at_deadline", ["refuse", "allow"])
def test_at_the_deadline_the_policy_of_the_order_decides(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at_deadline: str
) -> None:
    use_policy(monkeypatch, tmp_path, at_deadline)
    alice = line.open()
    slow = line.order(alice, prompt=REVIEWED, seconds=1)
    fast = line.order(alice, prompt=REVIEWED, seconds=1, service_tier="priority")
    # What was stated when the review began holds, whatever the policy says by then.
    use_policy(monkeypatch, tmp_path, {"refuse": "allow", "allow": "refuse"}[at_deadline])
    line.wait(hours=4, seconds=1)
    assert line.sweep("overdue_reviews") == {"overdue_reviews": 1}
    line.wait(hours=20)
    assert line.sweep("overdue_reviews") == {"overdue_reviews": 1}
    assert line.sweep("overdue_reviews") == {"overdue_reviews": 0}
    wanted = ("failed", "content_refused") if at_deadline == "refuse" else ("queued", None)
    for job in (fast, slow):
        assert (line.job(job.id).state, line.job(job.id).error_code) == wanted
        assert (review_of(line, job.id).decided_by, review_of(line, job.id).decision) == ("policy", at_deadline)
    line.check()


def test_the_promises_of_a_tier_count_from_the_decision_and_the_callers_own_from_the_order(line: Line) -> None:
    alice = line.open()
    jobs = {
        "flex": line.order(alice, prompt=REVIEWED, seconds=1, service_tier="flex"),
        "priority": line.order(alice, prompt=REVIEWED, seconds=1, service_tier="priority"),
        "own": line.order(alice, prompt=REVIEWED, seconds=1, service_tier="flex", expires_after=7200),
    }
    plain = line.order(alice, prompt="bars", seconds=1, service_tier="flex")
    assert [(job.not_after, job.start_by, job.promote_at) for job in jobs.values()] == [
        (None, None, None),
        (None, None, None),
        (jobs["own"].created_at + timedelta(hours=2), None, None),
    ]
    wait = timedelta(hours=1)
    line.wait(hours=1)
    for job in jobs.values():
        decide(line, job.id, Decision.ALLOW)
    flex, priority, own = (line.job(job.id) for job in jobs.values())
    assert flex.not_after is not None
    assert plain.not_after is not None
    slack = timedelta(seconds=1)
    assert abs(flex.not_after - plain.not_after - wait) < slack
    assert flex.promote_at is not None
    assert priority.start_by is not None
    assert priority.start_by > now(line.session)
    assert own.not_after == own.created_at + timedelta(hours=2)
    line.check()


def test_cancel_expiry_and_delete_end_a_review(line: Line) -> None:
    alice = line.open()
    cancelled = line.order(alice, prompt=REVIEWED, seconds=1)
    expired = line.order(alice, prompt=REVIEWED, seconds=1, expires_after=3600)
    line.cancel(alice, cancelled.id)
    line.wait(hours=1, seconds=1)
    assert line.sweep("past_deadlines") == {"past_deadlines": 1}
    for job, state in ((cancelled, "cancelled"), (expired, "expired")):
        assert line.job(job.id).state == state
        assert (review_of(line, job.id).decision, review_of(line, job.id).decided_by) == ("withdrawn", None)
        assert line.receipt(job.id).total == 0
        assert events(line, job.id) == ["video.created", f"video.{state}"]
        with pytest.raises(AppError, match="decided already"):
            decide(line, job.id, Decision.ALLOW)
    line.act(lambda: delete(line.session, find_job(line.session, alice, cancelled.id, lock=True)))
    assert balance(line.session, alice.account_id).held == 0
    waiting = line.order(alice, prompt=REVIEWED, seconds=1)
    with pytest.raises(AppError) as refused:
        line.act(lambda: delete(line.session, find_job(line.session, alice, waiting.id, lock=True)))
    assert refused.value.code == "not_finished"
    line.check()


def test_films_ordered_together_and_test_films_are_decided_one_by_one(line: Line) -> None:
    alice = line.open()
    first = line.order(alice, prompt=REVIEWED, seconds=1, n=2)
    second = line.session.scalar(select(Job).where(Job.group_id == first.group_id, Job.id != first.id))
    assert second is not None
    trial = line.order(line.open("Carol", test=True), prompt=REVIEWED, seconds=1)
    assert (trial.pool, trial.stage, review_of(line, trial.id).test) == ("synthetic", "moderating", True)
    decide(line, first.id, Decision.REFUSE)
    for job in (second, trial):
        decide(line, job.id, Decision.ALLOW)
    line.work()
    assert [line.job(job.id).state for job in (first, second, trial)] == ["failed", "completed", "completed"]
    line.check()


@pytest.mark.parametrize("decisions", [("allow", "refuse"), ("refuse", "refuse"), ("allow", "cancel")])
def test_of_two_who_decide_at_once_one_does(engine: Engine, line: Line, decisions: tuple[str, str]) -> None:
    alice = line.open()
    job = line.order(alice, prompt=REVIEWED, seconds=1)
    review = review_of(line, job.id)
    line.session.commit()
    start, results = threading.Barrier(2), []

    def run(decision: str) -> None:
        start.wait(30)
        try:
            with transaction(engine) as session:
                session.info["clock_at"] = line.session.info["clock_at"]
                if decision == "cancel":
                    request_cancel(session, find_job(session, alice, job.id, lock=True))
                else:
                    decide_review(session, MODERATOR, review.id, Decision(decision), reason="Seen.")
            results.append(decision)
        except AppError as error:
            assert error.code == "conflict"
            results.append("conflict")

    threads = [threading.Thread(target=run, args=(each,)) for each in decisions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if decisions == ("allow", "cancel"):
        # A cancel works before and after the decision.
        assert "cancel" in results
        assert line.job(job.id).state == "cancelled"
    else:
        assert sorted(results, reverse=True).count("conflict") == 1
    assert len([each for each in events(line, job.id) if each != "video.created"]) <= 1
    line.check()


def test_a_review_that_was_lost_ends_its_job_and_keeps_no_money(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, prompt=REVIEWED, seconds=1)
    assert StalledJobScan().next(line.session, limit=10) == []
    assert not line.act(lambda: reconcile_job(line.session, job.id))
    line.act(lambda: line.session.execute(text("DELETE FROM moderation_outcomes")))
    assert [each.rule for each in audit_books(line.session)] == ["job_in_review_waits_for_it"]
    assert StalledJobScan().next(line.session, limit=10) == [job.id]
    line.act(lambda: reconcile_job(line.session, job.id))
    assert (line.job(job.id).state, line.job(job.id).error_code) == ("failed", "work_lost")
    line.check()


FINDING = Finding(Outcome.REVIEW, "violence", 0.6, "violence", "classifier-1", "onnx")


def start_finish(line: Line, job_id: str) -> Take:
    """Render a job's segments and lease its finish."""
    while (lease := line.start()) is not None and lease.kind != "finish":
        line.make(lease)
    assert lease is not None
    assert lease.job_id == job_id
    return lease  # type: ignore[return-value]


@pytest.mark.parametrize("decision", ["allow", "refuse", "cancel"])
def test_a_film_waits_between_its_finish_and_its_delivery(line: Line, decision: str) -> None:
    """The verbs serve the stage `output` too: the finish ends its take, and starts again when the film is allowed."""
    alice = line.open()
    job = line.order(alice, prompt="bars", seconds=1)
    lease: Any = start_finish(line, job.id)

    def hold() -> None:
        release_take(line.session, lease)
        held = line.session.get_one(Job, job.id, with_for_update=True, populate_existing=True)
        hold_for_review(line.session, held, FINDING, CheckStage.OUTPUT)

    line.act(hold)
    job = line.job(job.id)
    assert (job.state, job.stage) == ("in_progress", "moderating")
    assert line.start() is None
    line.sweep()
    assert stalled_jobs(line.session, limit=10) == []
    assert line.job(job.id).stage == "moderating"
    if decision == "cancel":
        line.cancel(alice, job.id)
    else:
        decide(line, job.id, Decision(decision))
    if decision == "allow":
        assert line.job(job.id).stage == "finishing"
        line.work()
    job = line.job(job.id)
    wanted = {"allow": "completed", "refuse": "failed", "cancel": "cancelled"}[decision]
    assert (job.state, line.receipt(job.id).total) == (wanted, job.total if decision == "allow" else 0)
    assert {unit.state for unit in line.session.query(Unit).filter_by(job_id=job.id)} <= {"done", "dropped"}
    assert open_review_of(line.session, job.id) is None
    line.check()
