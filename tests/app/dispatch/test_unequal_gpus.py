"""Workers of unequal GPUs serve one pool: each takes only what fits it, costs what it costs, and nothing is hidden."""

from collections import Counter
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import cast
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.catalog.models import load_catalog
from app.clock import now
from app.dispatch.choice import has_ready, peek
from app.dispatch.claim import claim
from app.dispatch.eta import forecasts
from app.dispatch.gauges import read_all
from app.dispatch.queue_snapshot import refresh_queue_snapshot
from app.dispatch.service_figures import add_figures
from app.dispatch.tier_start import expected_starts
from app.dispatch.unfit import unfit_units
from app.dispatch.worker_registry import deregister_worker, register_worker
from app.jobs.queue_tables import Take
from app.jobs.tables import Job
from app.prices.find import book_at
from app.reports.audit import audit_books
from app.reports.service_overview import read_days
from app.reports.simulation import simulate_book
from app.reports.workers import list_worker_rows, read_pool_queues, standing_queues
from app.web.auth import Visitor
from app.web.studio.queue_notice import waiting_reason
from pricing.money import Money
from tests.factories import make_account, make_queued_job
from tests.ledger_simulation import Line
from tests.pool_file import WritePools, write_pools  # noqa: F401

GIB = 2**30
TWO_CLASSES = """
[pools.demo]
cold_start_seconds = 240
cost = [{ starts_at = 2020-01-01T00:00:00Z, per_gpu_second = "0.5" }]

[[pools.demo.gpus]]
name = "24g"
memory_gib = 24
features = ["bfloat16"]
cost = [{ starts_at = 2020-01-01T00:00:00Z, per_gpu_second = "0.01" }]

[[pools.demo.gpus]]
name = "80g"
device = "H100"
memory_gib = 79
features = ["bfloat16", "fp8"]
cost = [{ starts_at = 2020-01-01T00:00:00Z, per_gpu_second = "0.03" }]
"""


def serve(session: Session, name: str, memory_gib: float | None = None, *features: str, device: str = "a GPU") -> None:
    """Register a worker of the pool `demo`; without a memory it says nothing of its GPU, as old workers do not."""
    facts = {"name": device}
    known = {} if memory_gib is None else {"memory_bytes": int(memory_gib * GIB), "features": list(features)}
    register_worker(session, name, pools=["demo"], host="here", pid=1, device="cuda:0", facts=facts | known)


def need(session: Session, job: Job, memory_gib: float, *features: str) -> None:
    """Have the job's units need so much of a GPU."""
    session.flush()
    session.execute(
        text("UPDATE units SET memory_mb = :mb, features = :features WHERE job_id = :id"),
        {"mb": int(memory_gib * 1024), "features": list(features), "id": job.id},
    )
    session.expire_all()


def queue(session: Session, *needs: tuple[float, tuple[str, ...]]) -> list[Job]:
    account = make_account(session).id
    jobs = [make_queued_job(session, account) for _ in needs]
    for job, (memory, features) in zip(jobs, needs, strict=True):
        need(session, job, memory, *features)
    return jobs


def claimed_job(session: Session, worker: str) -> str | None:
    lease = claim(session, worker, ["demo"])
    return None if lease is None else lease.job_id


def test_a_claim_takes_only_what_fits_in_its_order(session: Session) -> None:
    large, special, small = queue(session, (40, ()), (8, ("fp8",)), (8, ()))
    serve(session, "small", 24, "bfloat16")
    serve(session, "large", 80, "bfloat16")
    serve(session, "new", 24, "bfloat16", "fp8")
    assert peek(session, "demo", worker_id="small") is not None
    assert claimed_job(session, "small") == small.id, "what is older does not fit"
    assert claimed_job(session, "small") is None
    assert not has_ready(session, ["demo"], "small")
    assert peek(session, "demo", worker_id="small") is None
    assert claimed_job(session, "new") == special.id
    assert has_ready(session, ["demo"], "large")
    assert claimed_job(session, "large") == large.id


def test_a_worker_that_reports_nothing_takes_everything(session: Session) -> None:
    (job,) = queue(session, (40, ("fp8",)))
    serve(session, "old")
    assert claimed_job(session, "old") == job.id


def turns(session: Session, worker: str, accounts: dict[str, str], count: int) -> str:
    """Return whose units a worker claims, one after another; each take ends with what it was charged."""
    names = ""
    for _ in range(count):
        lease = claim(session, worker, ["demo"])
        assert lease is not None
        session.execute(
            text("UPDATE takes SET state = 'succeeded', ended_at = now() WHERE id = :id"), {"id": lease.take_id}
        )
        names += accounts[lease.account_id]
    return names


def test_work_that_fits_no_worker_does_not_stop_the_clock(session: Session) -> None:
    """Whoever joins alternates with those that were served, and what has waited for its worker does so too."""
    waits, works, joins = (make_account(session, name).id for name in ("Xu", "Alice", "Bob"))
    accounts = {waits: "X", works: "A", joins: "B"}
    for _ in range(9):
        need(session, make_queued_job(session, waits), 40)
    serve(session, "small", 24)
    for _ in range(16):
        make_queued_job(session, works)
    assert turns(session, "small", accounts, 6) == "AAAAAA"
    for _ in range(10):
        make_queued_job(session, joins)
    assert sorted(turns(session, "small", accounts, 8)) == ["A"] * 4 + ["B"] * 4
    serve(session, "large", 80)
    shares = Counter(turns(session, "large", accounts, 9))
    assert set(shares) == set("ABX")
    assert max(shares.values()) <= 4, shares


def test_a_worker_with_less_memory_than_its_class_is_logged(
    session: Session,
    write_pools: WritePools,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_pools(TWO_CLASSES)
    serve(session, "whole", 79.1, device="NVIDIA H100 80GB")
    serve(session, "other", 12)
    assert caplog.messages == []
    serve(session, "short", 78.5, "bfloat16", device="NVIDIA H100 80GB")
    serve(session, "old")
    expected = "Worker short of pool demo has 80384 MiB, less than its class 80g in pools.toml says: 80896"
    assert caplog.messages == [expected]


def test_an_order_says_what_its_units_need(session: Session) -> None:
    line = Line(session)
    job = line.order(line.open(), model="demo", seconds=2)
    segments = [unit for unit in line.units(job) if unit.kind == "segment"]
    assert all(unit.memory_mb > 1024 for unit in segments), [unit.memory_mb for unit in segments]
    test_key = line.order(line.open("Test", test=True), model="demo", seconds=2)
    assert {unit.memory_mb for unit in line.units(test_key)} == {0}, "no model is loaded"


def test_what_fits_no_worker_has_no_eta_is_listed_and_counted(
    session: Session,
    write_pools: WritePools,  # noqa: F811
) -> None:
    job, other = queue(session, (40, ("fp8",)), (8, ()))
    assert unfit_units(session) == [], "without any worker this is another fault"
    serve(session, "small", 24)
    refresh_queue_snapshot(session)
    outlook = forecasts(session, [job, other])
    assert (outlook[job.id].eta(), outlook[other.id].eta() is None) == (None, False)
    assert unfit_units(session) == [("demo", "demo", 40 * 1024, ["fp8"], 1)]
    write_pools(TWO_CLASSES.replace('name = "80g"', 'name = "80g"\nworkers_max = 2'))
    assert unfit_units(session) == [], "an autoscaler starts a worker that it fits"
    session.execute(text("UPDATE units SET queued_at = queued_at - interval '661 seconds'"))
    assert len(unfit_units(session)) == 1, "what came did not take it"
    session.execute(text("UPDATE units SET class = 2"))
    assert unfit_units(session) == [], "flex work may wait"
    session.execute(text("UPDATE units SET class = 1, queued_at = queued_at + interval '661 seconds'"))
    refresh_queue_snapshot(session)
    eta = forecasts(session, [job])[job.id].eta()
    assert eta is not None
    assert eta["start_seconds"] >= 240
    serve(session, "large", 80, "fp8")
    eta = forecasts(session, [job])[job.id].eta()
    assert eta is not None
    assert eta["start_seconds"] < 240


def test_a_pool_that_sleeps_takes_orders_and_says_its_cold_start(
    session: Session,
    write_pools: WritePools,  # noqa: F811
) -> None:
    write_pools(TWO_CLASSES.replace('name = "24g"', 'name = "24g"\nworkers_max = 8'))
    (job,) = queue(session, (8, ()))
    refresh_queue_snapshot(session)
    eta = forecasts(session, [job])[job.id].eta()
    assert eta is not None
    assert 240 == eta["start_seconds"] < eta["seconds_p50"] <= eta["seconds_p90"]
    starts = expected_starts(session, pool="demo", account_id=job.account_id, priorities=[0, 1])
    assert starts[0] == 240
    assert (starts[1] or 0) >= 240

    def standing() -> list[str]:
        return standing_queues(list_worker_rows(session), read_pool_queues(session, set()))

    assert standing() == [], "its worker is being started"
    session.execute(text("UPDATE units SET queued_at = queued_at - interval '361 seconds'"))
    assert standing() == ["demo"], "that takes too long"


def test_the_studio_says_that_workers_start_for_an_order(
    session: Session,
    write_pools: WritePools,  # noqa: F811
) -> None:
    write_pools(TWO_CLASSES.replace('name = "24g"', 'name = "24g"\nworkers_max = 8'))
    visitor = cast(Visitor, SimpleNamespace(test=False))
    models = [load_catalog()["demo"]]
    assert "No worker is running" in waiting_reason(session, visitor, models), "nobody finishes films"
    register_worker(session, "finisher", pools=["finish"], host="here", pid=2, device="cpu", facts={})
    assert "start when a film is ordered, which takes about 4 minutes" in waiting_reason(session, visitor, models)
    serve(session, "small", 24)
    assert waiting_reason(session, visitor, models) == ""


@pytest.mark.new_database
def test_the_gauges_tell_cold_starts_and_units_that_fit_no_worker(
    database_url: str,
    session: Session,
    write_pools: WritePools,  # noqa: F811
) -> None:
    write_pools(TWO_CLASSES.replace('name = "24g"', 'name = "24g"\nworkers_max = 8'))
    queue(session, (90, ()))
    serve(session, "small", 24)
    session.commit()
    values = {
        (sample.name, sample.labels.get("pool")): sample.value for family in read_all() for sample in family.samples
    }
    assert values["cinemeter_units_unfit", "demo"] == 1
    assert values["cinemeter_cold_start_seconds", "demo"] == 240


def test_a_take_costs_what_its_gpu_costs_and_keeps_it(session: Session, write_pools: WritePools) -> None:  # noqa: F811
    write_pools(TWO_CLASSES)
    line = Line(session)
    alice = line.open()
    line.act(lambda: serve(session, "cheap", 24, "bfloat16"))
    line.act(lambda: serve(session, "dear", 80, "bfloat16", "fp8", device="NVIDIA H100 80GB"))
    since = now(session)
    for worker, gpu, cost in (("cheap", "24g", "0.015"), ("dear", "80g", "0.045"), ("worker-1", None, "0.75")):
        job = line.order(alice, model="demo", seconds=2)
        lease = line.start(["demo"], worker)
        assert lease is not None
        line.make(lease, gpu_seconds="1.500")
        line.work()
        take = session.get_one(Take, lease.take_id)
        assert (take.gpu, take.gpu_cost) == (gpu, Decimal(cost))
        assert line.receipt(job.id).gpu_cost == Decimal(cost)
    write_pools(TWO_CLASSES.replace('"0.03"', '"9"'))  # what was rendered keeps its cost
    line.wait(hours=3)

    def costs() -> tuple[Decimal, Money]:
        days = read_days(session, (since - timedelta(days=1)).date(), ZoneInfo("UTC"))
        book = book_at(session, now(session)).book
        simulation = simulate_book(session, book, since=since, until=now(session))
        return sum((day.gpu_cost for day in days.values()), Decimal(0)), simulation.cost

    assert costs() == (Decimal("0.81"), Money(81, "CNY"))
    line.act(lambda: add_figures(session))
    assert costs() == (Decimal("0.81"), Money(81, "CNY"))
    assert audit_books(session) == []


def test_costs_have_dates_and_what_was_not_recorded_costs_the_setting(
    session: Session,
    write_pools: WritePools,  # noqa: F811
) -> None:
    line = Line(session)
    alice = line.open()
    change = (now(session) + timedelta(hours=1)).isoformat()
    later = f'{{ starts_at = {change}, per_gpu_second = "2" }}'
    write_pools('[pools.demo]\ncost = [{ starts_at = 2020-01-01T00:00:00Z, per_gpu_second = "1" }, ' + later + "]")
    costs = []
    for _ in range(2):
        line.order(alice, model="demo", seconds=2)
        lease = line.start(["demo"])
        assert lease is not None
        line.make(lease, gpu_seconds="1.000")
        line.work()
        costs.append(session.get_one(Take, lease.take_id).gpu_cost)
        line.wait(hours=2)
    assert costs == [1, 2]
    deregister_worker(session, "worker-1")
    session.execute(text("UPDATE takes SET gpu_cost = NULL"))
    days = read_days(session, (now(session) - timedelta(days=2)).date(), ZoneInfo("UTC"))
    assert sum(day.gpu_cost for day in days.values()) == 2 * Decimal("0.0023")
