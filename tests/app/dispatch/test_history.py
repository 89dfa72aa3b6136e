"""History costs nothing: from the price of an order to its delivery, no statement scans ended jobs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.admin.inbox import read_inbox
from app.admin.operations import jobs_by_state, list_all_deliveries, list_all_jobs
from app.clock import now
from app.db import transaction
from app.dispatch.claim import Claim, claim
from app.dispatch.gauges import read_all
from app.dispatch.leader import Leadership
from app.dispatch.lease import (
    STORAGE_FAILED,
    fail_take,
    keep_checkpoint,
    lose_take,
    release_take,
    renew_lease,
)
from app.dispatch.retention import chores, clean
from app.dispatch.scheduler import record_forecasts, refresh_snapshot, resend_lost_wakeups, run_round
from app.dispatch.service_figures import add_figures
from app.dispatch.worker_registry import (
    WORKER_DIED,
    ask_host_to_leave,
    deregister_worker,
    heartbeat,
    register_worker,
    release_takes_of_child,
)
from app.jobs.intake import list_pauses
from app.jobs.queue_tables import Take
from app.jobs.tables import Job
from app.reports.accounts import read_figures, search_accounts
from app.reports.capped_count import capped_count
from app.reports.deliveries import list_delivery_rows
from app.reports.jobs import search_jobs
from app.reports.service_overview import count_workers, read_days, read_failures, read_queue
from app.reports.worker_history import read_worker_figures
from app.reports.workers import list_worker_rows, read_pool_queues
from app.roles import ADMIN_ROLES
from app.settings import get_settings
from app.webhooks.secret import key_of
from app.webhooks.tables import Delivery
from tests.api_client import World
from tests.app.dispatch.history import JOBS, add_history, recording, scans
from tests.app.net.receiver import Receiver
from tests.app.webhooks.couriers import courier_thread

ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@dataclass
class Past:
    """A service with a long past, and one endpoint of Alice's that answers."""

    world: World
    receiver: Receiver
    engine: Engine

    def order(self, **fields: Any) -> str:
        response = self.world.post("/v1/videos", ORDER | fields)
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def film(self) -> str:
        video = self.order()
        self.world.work()
        assert self.world.get(f"/v1/videos/{video}").json()["status"] == "completed"
        return video

    def deliver(self) -> None:
        """Run a courier until nothing is due."""
        with transaction() as session:
            due = set(session.scalars(text("SELECT event_id FROM webhook_deliveries WHERE state = 'pending'")))
        with courier_thread():
            assert self.receiver.wait_for(lambda seen: due <= {each.headers["webhook-id"] for each in seen})


@pytest.fixture
def past(world: World, engine: Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Past:
    monkeypatch.setenv("CINEMETER_WEBHOOK_ALLOW_PRIVATE", "1")
    get_settings.cache_clear()
    key_of.cache_clear()
    world.post("/v1/webhook_endpoints", {"url": receiver.url("/ok"), "event_types": ["video.*"]})
    past = Past(world, receiver, engine)
    past.order(quote_id=world.post("/v1/videos/quotes", ORDER).json()["id"])
    world.work()
    past.deliver()
    world.get("/v1/events")
    add_history(engine)
    # The scheduler has summed what is over, a day at a time.
    with transaction() as session:
        while add_figures(session):
            pass
    return past


def orders_and_polls(past: Past) -> None:
    world = past.world
    quote = world.post("/v1/videos/quotes", ORDER).json()
    video = world.post("/v1/videos", ORDER | {"quote_id": quote["id"]}).json()["id"]
    key = {"Idempotency-Key": "one"}
    for _ in range(2):
        assert world.post("/v1/videos", ORDER, headers=dict(key)).status_code == 200
    tries = {"X-Stainless-Retry-Count": "1"}
    assert world.post("/v1/videos", ORDER | {"prompt": "again"}, headers=tries).status_code == 200
    for path in ("", "?limit=20", f"/{video}", "?status=completed"):
        assert world.get(f"/v1/videos{path}").status_code in (200, 422), path
    for path in ("/v1/wallet", "/v1/events?limit=20", "/v1/models", "/v1/webhook_endpoints"):
        assert world.get(path).status_code == 200, path
    assert world.post(f"/v1/videos/{video}/cancel").status_code == 200
    film = past.film()
    for path in ("/receipt", "/content", ""):
        assert world.get(f"/v1/videos/{film}{path}").status_code == 200
    assert world.delete(f"/v1/videos/{film}").status_code == 200


def takes(past: Past) -> None:
    for end in (_beat_and_release, _fail, _fail_for_storage, _lose):
        past.order()
        with transaction() as session:
            register_worker(session, "parent-1", pools=["synthetic"], host="h", pid=2**22 + 7, device="cpu", facts={})
            current = claim(session, "parent-1", ["finish", "synthetic"])
        assert current is not None
        end(current)
        with transaction() as session:
            heartbeat(session, "parent-1", state="idle", take_id=None, resident_model=None)
            ask_host_to_leave(session, "parent")
            release_takes_of_child(session, "parent")
            deregister_worker(session, "parent-1")


def _beat_and_release(current: Claim) -> None:
    with transaction() as session:
        renew_lease(session, current, step=1, steps=8, percent=10)
        keep_checkpoint(session, current, "takes/checkpoint")
    with transaction() as session:
        release_take(session, current)


def _fail(current: Claim) -> None:
    with transaction() as session:
        fail_take(session, current, code="render_failed", message="broke", permanent=False)


def _fail_for_storage(current: Claim) -> None:
    with transaction() as session:
        fail_take(session, current, code=STORAGE_FAILED, message="no store", permanent=False)


def _lose(current: Claim) -> None:
    with transaction() as session:
        take = session.get_one(Take, current.take_id)
        take.lease_until, take.error_code = take.started_at, WORKER_DIED
    with transaction() as session:
        assert lose_take(session, current.take_id, current.job_id)


def scheduler_rounds(past: Past) -> None:
    past.order(service_tier="flex")
    leadership = Leadership("scheduler")
    assert leadership.acquire()
    for _ in range(2):
        resend_lost_wakeups(leadership)
        run_round(leadership)
        refresh_snapshot(leadership)
        record_forecasts(leadership)
    clean(chores())
    assert read_all()
    leadership.leave()


def deliveries(past: Past) -> None:
    past.film()
    past.deliver()


def operators_lists(_past: Past) -> None:
    with transaction() as session:
        assert list_all_jobs(session)[1]
        assert list_all_jobs(session, state="failed") == ([], False)
        assert list_all_deliveries(session)[1]
        assert list_all_deliveries(session, state="exhausted") == ([], False)
        assert capped_count(session, Job.created_at, Job.state == "completed") == "1,000+"
        assert capped_count(session, Job.created_at, Job.state == "expired") == "0"
        assert capped_count(session, Delivery.created_at, Delivery.state == "delivered") == "1,000+"
        assert capped_count(session, Delivery.created_at, Delivery.state == "pending") == "0"
        assert list_all_jobs(session, model="no-such-model") == ([], False)
        assert jobs_by_state(session, since=now(session) - timedelta(days=1))
        assert list_worker_rows(session)
        assert read_pool_queues(session, {"synthetic"})
        assert list_delivery_rows(session, state="exhausted", limit=20) == ([], False)
        assert list_delivery_rows(session, limit=20)[1]


def overview(_past: Past) -> None:
    with transaction() as session:
        moment, zone = now(session), ZoneInfo("Asia/Shanghai")
        first = moment.astimezone(zone).date() - timedelta(days=90)
        days = read_days(session, first, zone)
        assert sum(day.films for day in days.values()) > JOBS
        read_failures(session, first, zone)
        read_queue(session, moment)
        count_workers(session)
        list_pauses(session)
        read_worker_figures(session)
        read_figures(session, [newest_account(session)])
        roles = frozenset(map(str, ADMIN_ROLES))
        assert {each.kind for each in read_inbox(session, "nobody", roles, str(zone))} >= {"no_worker"}


def newest_account(session: Session) -> str:
    return list_all_jobs(session, limit=1)[0][0].account_id


def searches(past: Past) -> None:
    with transaction() as session:
        newest = list_all_jobs(session, limit=1)[0][0]
        for search in (newest.id, newest.id[:14], newest.account_id, "alice", "ALICE@example", "no such thing"):
            for state in (None, "failed"):
                search_jobs(session, search, state=state, limit=20)
        assert [job.id for job, _ in search_jobs(session, newest.id, limit=20)[0]] == [newest.id]
        search_jobs(session, limit=20)
        search_accounts(session, "alice", limit=20)
        assert len(search_accounts(session, limit=50)[0]) > 1


@pytest.mark.deep
@pytest.mark.timeout(300)
def test_no_statement_of_an_orders_life_reads_history(past: Past) -> None:
    paths: tuple[Callable[[Past], None], ...] = (
        *(operators_lists, overview, searches),
        *(orders_and_polls, takes, scheduler_rounds, deliveries),
    )
    before = scans(past.engine)
    reads: list[str] = []
    for path in paths:
        with recording() as record:
            path(past)
        assert record.sent
        reads += [f"{path.__name__}: {read}" for read in record.reads_of_history()]
    assert not reads, "\n\n".join(reads)
    after = scans(past.engine)
    # This also counts what triggers and foreign keys read.
    assert {table: after[table] - before[table] for table in after if after[table] != before[table]} == {}
