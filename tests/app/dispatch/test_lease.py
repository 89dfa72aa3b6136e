"""Leases on the database clock: renewed, lost, fenced, retried within budgets, and released without penalty."""

import subprocess
import sys
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from app.clock import now
from app.db import transaction
from app.dispatch.claim import Claim, claim
from app.dispatch.lease import (
    OUTAGE_TAKES_MAX,
    STORAGE_FAILED,
    LeaseLost,
    fail_take,
    keep_checkpoint,
    lose_take,
    release_take,
    renew_lease,
    succeed_segment,
)
from app.dispatch.worker_registry import (
    WORKER_DIED,
    ask_host_to_leave,
    register_worker,
    release_takes_of_child,
    set_draining,
)
from app.jobs.queue_tables import Share, Take, Unit
from app.jobs.tables import Job
from app.settings import get_settings
from tests.factories import make_account, make_queued_job, make_spec, units_of
from tests.ledger_simulation import Line


@pytest.fixture
def line(session: Session) -> Line:
    return Line(session)


METER = {"gpu_seconds": "1"}


@pytest.fixture
def job(session: Session) -> Job:
    return make_queued_job(session, make_account(session).id, spec=make_spec(seconds=(2,)))


def take(session: Session, worker: str = "worker-1") -> Claim:
    claimed = claim(session, worker, ["demo"])
    assert claimed is not None
    return claimed


def pass_time(session: Session, seconds: float) -> None:
    """Move the service's clock ahead; the time of this transaction is read again."""
    session.info["clock_offset"] = session.info.get("clock_offset", timedelta()) + timedelta(seconds=seconds)
    session.info.pop("cinemeter_now", None)


def test_a_heartbeat_renews_the_lease_and_moves_progress_forward_only(session: Session, job: Job) -> None:
    claimed = take(session)
    pass_time(session, 30)
    renew_lease(session, claimed, step=3, steps=8, percent=40)
    session.expire_all()
    row = session.get_one(Take, claimed.take_id)
    assert row.lease_until == now(session) + timedelta(seconds=get_settings().lease_seconds)
    renew_lease(session, claimed, step=1, steps=8, percent=10)
    session.expire_all()
    assert session.get_one(Job, job.id).progress == 40


def test_a_frozen_worker_that_wakes_can_write_nothing(session: Session, job: Job) -> None:
    claimed = take(session)
    pass_time(session, get_settings().lease_seconds + 1)
    for late in (
        lambda: renew_lease(session, claimed, step=1, steps=8),
        lambda: succeed_segment(session, claimed, clip_key="late", handover_key=None, meter=METER),
        lambda: release_take(session, claimed),
        lambda: fail_take(session, claimed, code="render_failed", message="late", permanent=False),
    ):
        with pytest.raises(LeaseLost):
            late()
    assert lose_take(session, claimed.take_id, job.id)
    assert not lose_take(session, claimed.take_id, job.id), "a second repair finds nothing to do"
    second = take(session, "worker-2")
    assert second.fence > claimed.fence
    with pytest.raises(LeaseLost):
        succeed_segment(session, claimed, clip_key="zombie", handover_key=None, meter=METER)
    succeed_segment(session, second, clip_key="good", handover_key=None, meter=METER)
    segment = next(unit for unit in units_of(session, job) if unit.kind == "segment")
    assert (segment.state, segment.clip_key) == ("done", "good")


def test_what_the_platform_lost_is_not_charged_to_the_account(session: Session, job: Job) -> None:
    before = session.get_one(Share, ("demo", job.account_id)).vtime
    claimed = take(session)
    pass_time(session, get_settings().lease_seconds + 1)
    lose_take(session, claimed.take_id, job.id)
    session.expire_all()
    assert session.get_one(Share, ("demo", job.account_id)).vtime == before


def test_a_draining_worker_releases_without_penalty(session: Session, job: Job) -> None:
    register_worker(session, "worker-1", pools=["demo"], host="here", pid=1, device="cpu", facts={})
    claimed = take(session)
    assert not renew_lease(session, claimed, step=1, steps=8).drain
    set_draining(session, "worker-1")
    assert renew_lease(session, claimed, step=2, steps=8).drain
    release_take(session, claimed)
    session.flush()
    session.expire_all()
    unit = session.get_one(Unit, claimed.unit_id)
    assert (unit.state, unit.takes_lost, unit.takes_error) == ("ready", 0, 0)
    assert take(session, "worker-2").unit_id == claimed.unit_id


def test_an_error_is_tried_again_after_a_pause(session: Session, job: Job) -> None:
    claimed = take(session)
    fail_take(session, claimed, code="render_failed", message="broke", permanent=False)
    session.flush()
    assert claim(session, "worker-1", ["demo"]) is None, "it waits"
    pass_time(session, 3)
    assert take(session).unit_id == claimed.unit_id


def test_the_last_segment_makes_the_finish_ready(session: Session) -> None:
    job = make_queued_job(session, make_account(session).id, spec=make_spec(seconds=(1, 1)))
    first, second = take(session), take(session, "worker-2")
    succeed_segment(session, second, clip_key="b", handover_key=None, meter=METER)
    assert [unit.kind for unit in units_of(session, job)] == ["segment", "segment"]
    succeed_segment(session, first, clip_key="a", handover_key=None, meter=METER)
    assert [unit.kind for unit in units_of(session, job)] == ["finish", "segment", "segment"]
    assert session.get_one(Job, job.id).stage == "finishing"


def test_segments_of_one_shot_follow_each_other(session: Session) -> None:
    job = make_queued_job(session, make_account(session).id, spec=make_spec(seconds=(20,)))
    states = [unit.state for unit in units_of(session, job)]
    assert states[0] == "ready"
    assert set(states[1:]) == {"blocked"}
    claimed = take(session)
    assert claim(session, "worker-2", ["demo"]) is None
    succeed_segment(session, claimed, clip_key="a", handover_key="h", meter=METER)
    assert take(session, "worker-2").unit_id == units_of(session, job)[1].id


def lose(session: Session, claimed: Claim, *, died: bool) -> None:
    """Lose a worker: its parent observes its death, or its lease just expires."""
    if died:
        session.get_one(Take, claimed.take_id).error_code = WORKER_DIED
        session.flush()
    pass_time(session, get_settings().lease_seconds + 1)
    assert lose_take(session, claimed.take_id, claimed.job_id)


@pytest.mark.parametrize("step", [0, 3])
def test_a_segment_that_kills_two_workers_is_failed_and_refunded_and_not_fed_to_a_third(line: Line, step: int) -> None:
    alice = line.open()
    order = line.order(alice, seconds=5)
    for worker in ("worker-1", "worker-2"):
        claimed = line.start(worker=worker)
        assert claimed is not None
        line.act(lambda lease=claimed: renew_lease(line.session, lease, step=step, steps=8))
        line.session.get_one(Take, claimed.take_id).error_code = WORKER_DIED
        line.wait(seconds=get_settings().lease_seconds + 1)
        line.sweep("lost_takes")
    assert line.start(worker="worker-3") is None
    assert (line.job(order.id).state, line.job(order.id).error_code) == ("failed", "worker_lost")
    assert line.receipt(order.id).total == 0
    assert line.posted(alice) == 100_000
    line.check()


def test_a_take_that_was_only_uploaded_is_not_blamed_for_the_death_of_its_worker(session: Session) -> None:
    make_queued_job(session, make_account(session).id, spec=make_spec(seconds=(1, 1)))
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    register_worker(session, "host-1-2", pools=["demo"], host="here", pid=child.pid, device="cpu", facts={})
    uploaded, rendered = take(session, "host-1-2"), take(session, "host-1-2")
    assert release_takes_of_child(session, "host-1") == 2
    session.expire_all()
    codes = {claimed.take_id: session.get_one(Take, claimed.take_id).error_code for claimed in (uploaded, rendered)}
    assert codes == {uploaded.take_id: None, rendered.take_id: WORKER_DIED}


def test_workers_that_are_cut_off_later_cost_the_budget_of_losses_only(session: Session, job: Job) -> None:
    for number in range(get_settings().takes_lost_max - 1):
        claimed = take(session, f"worker-{number}")
        renew_lease(session, claimed, step=3, steps=8)
        lose(session, claimed, died=False)
    assert session.get_one(Job, job.id).state == "in_progress"
    unit = units_of(session, job)[0]
    assert (unit.state, unit.takes_lost, unit.takes_error) == ("ready", get_settings().takes_lost_max - 1, 0)


def test_the_pause_after_an_error_doubles(session: Session, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CINEMETER_TAKES_ERROR_MAX", "5")
    get_settings.cache_clear()
    pauses = []
    for _ in range(3):
        claimed = take(session)
        fail_take(session, claimed, code="render_failed", message="broke", permanent=False)
        session.flush()
        unit = session.get_one(Unit, claimed.unit_id)
        assert unit.not_before is not None
        pauses.append((unit.not_before - now(session)).total_seconds())
        pass_time(session, pauses[-1] + 1)
    get_settings.cache_clear()
    assert pauses == [2, 4, 8]


@pytest.mark.parametrize("kind", ["segment", "finish"])
def test_an_outage_of_storage_has_pauses_and_a_budget_of_its_own(line: Line, kind: str) -> None:
    alice = line.open()
    order = line.order(alice, seconds=1)
    if kind == "finish":
        segment = line.start()
        assert segment is not None
        line.make(segment)
    pauses = []
    for _ in range(OUTAGE_TAKES_MAX):
        claimed = line.start()
        assert claimed is not None
        assert claimed.kind == kind
        line.fail(claimed, permanent=False, code=STORAGE_FAILED)
        waiting = line.session.get_one(Unit, claimed.unit_id, populate_existing=True)
        if waiting.not_before is not None and waiting.state == "ready":
            pauses.append(round((waiting.not_before - now(line.session)).total_seconds()))
            line.wait(seconds=pauses[-1] + 1)
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert (line.job(order.id).state, line.job(order.id).error_code) == ("failed", "storage_failed")
    assert line.posted(alice) == 100_000
    line.check()


def test_an_outage_of_storage_leaves_the_budget_of_errors_untouched(line: Line) -> None:
    order = line.order(line.open(), seconds=1)
    for code in (STORAGE_FAILED, STORAGE_FAILED, "render_failed"):
        claimed = line.start()
        assert claimed is not None
        line.fail(claimed, permanent=False, code=code)
        line.wait(seconds=10)
    line.work()
    assert line.job(order.id).state == "completed"
    line.check()


def test_a_worker_that_must_stop_learns_how_much_time_it_has(session: Session, job: Job) -> None:
    register_worker(session, "host-1-2", pools=["demo"], host="here", pid=1, device="cpu", facts={})
    claimed = take(session, "host-1-2")
    ask_host_to_leave(session, "host-1")
    orders = renew_lease(session, claimed, step=1, steps=8)
    assert (orders.drain, orders.leave_in) == (True, get_settings().drain_seconds)
    keep_checkpoint(session, claimed, "takes/a/b/c.checkpoint")
    release_take(session, claimed)
    session.flush()
    assert claim(session, "host-1-2", ["demo"]) is None
    unit = session.get_one(Unit, take(session, "worker-2").unit_id)
    assert (unit.checkpoint_key, unit.takes_lost, unit.takes_error) == ("takes/a/b/c.checkpoint", 0, 0)


@pytest.mark.parametrize("hours", [-1, 1])
def test_leases_do_not_heed_the_clock_that_a_process_is_set_to(
    database_url: str, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """A worker an hour ahead must not hold its lease for an hour after its death, nor one behind lose each at once."""
    with transaction() as session:
        queued = make_queued_job(session, make_account(session).id)
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", str(hours * 3600))
    get_settings.cache_clear()
    with transaction() as session:
        claimed = take(session)
        renew_lease(session, claimed, step=1, steps=8)
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", "0")
    get_settings.cache_clear()
    with transaction() as session:
        left = session.get_one(Take, claimed.take_id).lease_until - now(session)
        assert timedelta(0) < left <= timedelta(seconds=get_settings().lease_seconds)
        assert not lose_take(session, claimed.take_id, queued.id)
        pass_time(session, get_settings().lease_seconds)
        assert lose_take(session, claimed.take_id, queued.id)
