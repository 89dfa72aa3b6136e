"""The fair order on the real SQL: classes, virtual time, weights, limits and model affinity."""

import itertools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts.accounts import set_limits
from app.accounts.memberships import grant_membership
from app.clock import now
from app.db import transaction
from app.dispatch.claim import Claim, claim
from app.dispatch.lease import close_take
from app.dispatch.throughput import record_throughput
from app.dispatch.worker_registry import register_worker, set_draining
from app.jobs.queue_tables import Share, Take, Unit, Worker
from app.jobs.states import TakeState
from app.settings import get_settings
from tests.factories import make_account, make_queued_job, make_spec
from tests.ledger_simulation import Line


@pytest.fixture
def line(session: Session) -> Line:
    return Line(session)


def claim_one(session: Session, resident: str | None = None, pools: tuple[str, ...] = ("demo",)) -> Claim | None:
    return claim(session, "worker-1", list(pools), resident)


def end(session: Session, claimed: Claim, gpu_seconds: str) -> None:
    take = session.get_one(Take, claimed.take_id)
    close_take(session, take, TakeState.SUCCEEDED, meter={"gpu_seconds": gpu_seconds})
    session.get_one(Unit, claimed.unit_id).state = "done"
    session.flush()


def measure(session: Session, take: Take) -> None:
    """Learn from an ended take, as happens after the commit of its settlement."""
    seconds = Decimal(str((take.ended_at - take.started_at).total_seconds())) / 16  # type: ignore[operator]
    key = (take.model, take.kind, "720P")
    record_throughput(session.connection(), key, seconds=seconds, gpu_seconds=take.gpu_seconds / 16)


def test_an_empty_pool_gives_nothing(session: Session) -> None:
    assert claim_one(session) is None


def test_log_lines_of_a_take_name_its_worker_account_and_trace(session: Session) -> None:
    account = make_account(session).id
    job = make_queued_job(session, account, traceparent=f"00-{'a' * 32}-{'b' * 16}-01", request_id="req_1")
    claimed = claim_one(session)
    assert claimed is not None
    assert claimed.ids() == {
        "request_id": "req_1",
        "trace_id": "a" * 32,
        "account_id": account,
        "job_id": job.id,
        "take_id": claimed.take_id,
        "worker_id": "worker-1",
    }


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
    assert {unit.priority for unit in session.query(Unit).filter_by(job_id=job.id)} == {1}


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


def test_charges_guessed_too_high_do_not_delay_a_new_account(session: Session) -> None:
    flood, late = make_account(session, "Flood"), make_account(session, "Late")
    for _ in range(30):
        make_queued_job(session, flood.id, concurrency=4)
    guessed = [claim_one(session) for _ in range(3)]  # two seconds are charged for each, and a fraction is used
    for claimed in guessed:
        end(session, claimed, "0.01")  # type: ignore[arg-type]
        measure(session, session.get_one(Take, claimed.take_id))  # type: ignore[union-attr]
    single = make_queued_job(session, late.id)
    before = itertools.takewhile(lambda claimed: claimed.job_id != single.id, iter(lambda: claim_one(session), None))  # type: ignore[union-attr]
    assert sum(1 for _ in before) <= 1


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


def test_a_resident_model_passes_its_own_accounts_older_units_only_for_a_window(session: Session) -> None:
    """One account's steady stream for the loaded model must not keep its older film for another model for ever."""
    account = make_account(session)
    moment = now(session)
    old = make_queued_job(session, account.id, at=moment)
    for number in range(200):
        job = make_queued_job(session, account.id, at=moment + timedelta(seconds=1 + number))
        session.query(Unit).filter_by(job_id=job.id).update({"model": "loaded"})
    session.flush()
    passed = 0
    while (claimed := claim_one(session, resident="loaded")) and claimed.job_id != old.id:
        passed += 1
        end(session, claimed, "2")
    # Units of two GPU-seconds, a window of 120.
    assert passed == get_settings().affinity_seconds // 2
    assert claim_one(session, resident="loaded").job_id != old.id  # type: ignore[union-attr]
    assert session.get_one(Share, ("demo", account.id)).jumped == 0, "the window starts again"


def test_priority_customers_do_not_move_the_clock_of_waiting_accounts(session: Session) -> None:
    """A waiting account keeps its place, however many takes a higher class gets meanwhile."""
    rich, patient, other = (make_account(session, name) for name in ("Rich", "Patient", "Other"))
    for _ in range(30):
        make_queued_job(session, rich.id, spec=make_spec(tier="priority"))
    make_queued_job(session, patient.id)
    make_queued_job(session, other.id)
    for _ in range(30):
        end(session, claim_one(session), "2")  # type: ignore[arg-type]
    make_queued_job(session, patient.id)
    assert session.get_one(Share, ("demo", patient.id)).vtime == session.get_one(Share, ("demo", other.id)).vtime


def test_the_concurrency_of_a_membership_counts_over_all_pools_but_not_finishes_or_tests(session: Session) -> None:
    account = make_account(session)
    for pool in ("demo", "wan", "synthetic"):
        make_queued_job(session, account.id, pool=pool, concurrency=1)
    make_queued_job(session, account.id, spec=make_spec(seconds=()), concurrency=1)
    assert claim_one(session, pools=("wan",)) is not None
    assert claim_one(session, pools=("demo",)) is None
    assert claim_one(session, pools=("synthetic",)) is not None
    assert claim_one(session, pools=("finish",)) is not None


def test_two_workers_at_once_in_two_pools_do_not_run_one_segment_too_many(database_url: str, engine: Engine) -> None:
    with transaction() as session:
        account = make_account(session)
        for pool in ("demo", "wan"):
            for _ in range(4):
                make_queued_job(session, account.id, pool=pool, concurrency=3)
    start = threading.Barrier(6)

    def ask(number: int) -> Claim | None:
        start.wait()
        with transaction() as session:
            return claim(session, f"worker-{number}", [("demo", "wan")[number % 2]])

    with ThreadPoolExecutor(6) as workers:
        claims = list(workers.map(ask, range(6)))
    assert sum(each is not None for each in claims) == 3


def test_a_unit_of_an_ended_job_does_not_stop_its_pool(session: Session) -> None:
    account = make_account(session)
    moment = now(session)
    ended = make_queued_job(session, account.id, at=moment - timedelta(seconds=1))
    ended.state, ended.finished_at = "failed", moment
    good = make_queued_job(session, account.id, at=moment)
    session.flush()
    assert claim_one(session).job_id == good.id  # type: ignore[union-attr]


def test_a_unit_whose_take_still_runs_does_not_stop_its_pool(session: Session) -> None:
    account = make_account(session)
    moment = now(session)
    make_queued_job(session, account.id, at=moment - timedelta(seconds=1))
    good = make_queued_job(session, account.id, at=moment)
    running = claim_one(session)
    assert running is not None
    session.get_one(Unit, running.unit_id).state = "ready"
    session.flush()
    assert claim_one(session).job_id == good.id  # type: ignore[union-attr]


def test_an_account_without_a_share_is_served_all_the_same(session: Session) -> None:
    job = make_queued_job(session, make_account(session).id)
    session.query(Share).delete()
    assert claim_one(session).job_id == job.id  # type: ignore[union-attr]


def test_a_worker_that_was_asked_to_drain_claims_nothing(session: Session) -> None:
    make_queued_job(session, make_account(session).id)
    register_worker(session, "worker-1", pools=["demo"], host="here", pid=1, device="cpu", facts={})
    set_draining(session, "worker-1")
    assert claim_one(session) is None
    set_draining(session, "worker-1", drain=False)
    claimed = claim_one(session)
    assert claimed is not None
    session.expire_all()
    worker = session.get_one(Worker, "worker-1")
    assert (worker.state, worker.take_id) == ("busy", claimed.take_id), "no wake-up is sent for it from here on"


def test_a_claim_charges_the_measured_cost_of_such_units(session: Session) -> None:
    """Else an account could take ten hour-long units at the price of ten short films before the first is corrected."""
    account = make_account(session)
    make_queued_job(session, account.id)
    make_queued_job(session, account.id)
    first = claim_one(session)
    assert first is not None
    assert session.get_one(Take, first.take_id).charged == 2, "nothing is known yet, so the film's length"
    take = session.get_one(Take, first.take_id)
    close_take(session, take, TakeState.SUCCEEDED, meter={"gpu_seconds": "480"})
    measure(session, take)
    session.flush()
    second = claim_one(session)
    assert second is not None
    assert session.get_one(Take, second.take_id).charged == 480


def test_shares_follow_memberships_and_limits_that_change_while_jobs_wait(line: Line) -> None:
    alice = line.open(membership="free")
    for _ in range(3):
        line.order(alice, seconds=1)
    share = ("synthetic", alice.account_id)
    assert line.session.get_one(Share, share).concurrency == 2
    line.act(
        lambda: grant_membership(
            line.session, alice.account_id, "professional", starts_at=now(line.session) + timedelta(hours=1)
        )
    )
    assert line.sweep("stale_shares") == {"stale_shares": 0}
    line.wait(hours=2)
    assert line.sweep("stale_shares")["stale_shares"] > 0
    line.session.expire_all()
    assert line.session.get_one(Share, share).weight == 4
    line.act(lambda: set_limits(line.session, alice.account_id, concurrency=1, queue_limit=None))
    line.sweep("stale_shares")
    assert line.start() is not None
    assert line.start() is None, "the operator's limit binds what already waits"


def test_short_segments_of_a_heavy_account_advance_its_virtual_time(session: Session) -> None:
    heavy, light = make_account(session, "Heavy"), make_account(session, "Light")
    session.info["clock_at"] = now(session)
    # A frame of this takes 0.1 ms of the GPU: a segment of 16 is charged 2 ms, and a weight of 16 makes 0.1 ms of it.
    record_throughput(
        session.connection(), ("demo", "segment", "720P"), seconds=Decimal("0.0001"), gpu_seconds=Decimal("0.0001")
    )
    make_queued_job(session, heavy.id, weight=16)
    make_queued_job(session, heavy.id, weight=16)
    assert claim(session, "worker-1", ["demo"]) is not None
    share = session.get_one(Share, ("demo", heavy.id), populate_existing=True)
    assert 0 < share.vtime < Decimal("0.0005")
    later = make_queued_job(session, light.id, at=now(session) + timedelta(seconds=1))
    lease = claim(session, "worker-1", ["demo"])
    assert lease is not None
    assert lease.job_id == later.id
