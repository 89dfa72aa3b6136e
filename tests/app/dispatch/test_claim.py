"""The fair order on the real SQL: classes, virtual time, weights, caps, affinity, and that it is never unfair."""

from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy.orm import Session

from app.clock import now
from app.dispatch.claim import Claim, claim
from app.dispatch.lease import close_take
from app.jobs.queue_tables import Share, Take, Unit
from app.jobs.states import TakeState
from tests.makers import make_account, make_queued_job, make_spec


def claim_one(session: Session, resident: str | None = None, pools: tuple[str, ...] = ("demo",)) -> Claim | None:
    return claim(session, "worker-1", list(pools), resident)


def end(session: Session, claimed: Claim, gpu_seconds: str) -> None:
    take = session.get_one(Take, claimed.take_id)
    close_take(session, take, TakeState.SUCCEEDED, meter={"gpu_seconds": gpu_seconds})
    session.get_one(Unit, claimed.unit_id).state = "done"
    session.flush()


def test_an_empty_pool_gives_nothing(session: Session) -> None:
    assert claim_one(session) is None


def test_a_claim_leases_the_unit_and_starts_the_job(session: Session) -> None:
    job = make_queued_job(session, make_account(session).id)
    claimed = claim_one(session)
    assert claimed is not None
    take = session.get_one(Take, claimed.take_id)
    assert (take.state, take.fence, take.worker_id) == ("running", claimed.fence, "worker-1")
    assert take.lease_until > now(session)
    assert (job.state, job.stage) == ("in_progress", "rendering")
    assert claim_one(session) is None, "one unit is claimed once"


def test_within_an_account_the_oldest_goes_first(session: Session) -> None:
    account = make_account(session)
    moment = now(session)
    younger = make_queued_job(session, account.id, at=moment)
    older = make_queued_job(session, account.id, at=moment - timedelta(seconds=5))
    assert [claim_one(session).job_id for _ in range(2)] == [older.id, younger.id]  # type: ignore[union-attr]


def test_priority_goes_before_standard_before_flex(session: Session) -> None:
    account = make_account(session)
    jobs = {tier: make_queued_job(session, account.id, spec=make_spec(tier=tier)) for tier in ("flex", "standard")}
    jobs["priority"] = make_queued_job(session, make_account(session, "Bob").id, spec=make_spec(tier="priority"))
    order = [claim_one(session).job_id for _ in range(3)]  # type: ignore[union-attr]
    assert order == [jobs["priority"].id, jobs["standard"].id, jobs["flex"].id]


def test_a_started_flex_job_goes_on_as_standard(session: Session) -> None:
    job = make_queued_job(session, make_account(session).id, spec=make_spec(seconds=(2, 2), tier="flex"))
    assert claim_one(session)
    session.expire_all()
    assert {unit.klass for unit in session.query(Unit).filter_by(job_id=job.id)} == {1}


def test_shares_follow_weights_and_a_flood_starves_nobody(session: Session) -> None:
    light, heavy = make_account(session, "Light"), make_account(session, "Heavy")
    for _ in range(60):
        make_queued_job(session, light.id, weight=1)
        make_queued_job(session, heavy.id, weight=3)
    served: Counter[str] = Counter()
    for _ in range(40):
        claimed = claim_one(session)
        assert claimed is not None
        served[session.get_one(Take, claimed.take_id).account_id] += 1
        end(session, claimed, "2")
    assert served[heavy.id] == 3 * served[light.id]


def test_idleness_earns_no_credit(session: Session) -> None:
    busy, idle = make_account(session, "Busy"), make_account(session, "Idle")
    make_queued_job(session, idle.id)
    end(session, claim_one(session), "2")  # type: ignore[arg-type]
    for _ in range(30):
        make_queued_job(session, busy.id)
    for _ in range(20):
        end(session, claim_one(session), "2")  # type: ignore[arg-type]
    for _ in range(10):
        make_queued_job(session, idle.id)
    served: Counter[str] = Counter()
    for _ in range(8):
        claimed = claim_one(session)
        served[session.get_one(Take, claimed.take_id).account_id] += 1  # type: ignore[union-attr]
        end(session, claimed, "2")  # type: ignore[arg-type]
    assert abs(served[idle.id] - served[busy.id]) <= 2


def test_an_account_runs_no_more_takes_than_its_membership_allows(session: Session) -> None:
    capped, other = make_account(session, "Capped"), make_account(session, "Other")
    for _ in range(3):
        make_queued_job(session, capped.id, concurrency=1)
    theirs = make_queued_job(session, other.id, at=now(session) + timedelta(seconds=1))
    first = claim_one(session)
    assert first is not None
    assert claim_one(session).job_id == theirs.id  # type: ignore[union-attr]
    assert claim_one(session) is None
    end(session, first, "1")
    assert claim_one(session) is not None


def test_a_correction_gives_back_what_was_not_used(session: Session) -> None:
    account = make_account(session)
    make_queued_job(session, account.id)
    claimed = claim_one(session)
    assert claimed is not None
    before = session.get_one(Share, ("demo", account.id)).vtime
    end(session, claimed, "0.5")
    session.expire_all()
    assert session.get_one(Share, ("demo", account.id)).vtime == before - Decimal("1.5")


@pytest.mark.parametrize(("behind", "expected"), [(60, "resident"), (600, "fair")])
def test_the_resident_model_jumps_the_order_only_within_the_window(
    session: Session, behind: int, expected: str
) -> None:
    fair, near = make_account(session, "Fair"), make_account(session, "Near")
    moment = now(session)
    jobs = {
        "fair": make_queued_job(session, fair.id, at=moment),
        "resident": make_queued_job(session, near.id, at=moment + timedelta(seconds=1)),
    }
    session.query(Unit).filter_by(job_id=jobs["resident"].id).update({"model": "loaded"})
    session.get_one(Share, ("demo", near.id)).vtime = Decimal(behind)
    session.flush()
    assert claim_one(session, resident="loaded").job_id == jobs[expected].id  # type: ignore[union-attr]


def test_a_unit_that_must_wait_is_passed_over(session: Session) -> None:
    account = make_account(session)
    waiting = make_queued_job(session, account.id)
    session.query(Unit).filter_by(job_id=waiting.id).update({"not_before": now(session) + timedelta(minutes=1)})
    ready = make_queued_job(session, account.id)
    assert claim_one(session).job_id == ready.id  # type: ignore[union-attr]
    assert claim_one(session) is None
