"""A busy day by a virtual clock: the service's own functions and SQL, GPUs that only pass time, no row that is cloned.

Orders, claims, heartbeats, ends, cancels, crashes and the scheduler's rounds happen one after the other, each at its
moment on a clock that jumps from one to the next. Every transaction reads that clock instead of the database's.
"""

import heapq
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random
from typing import Any

import psycopg
from sqlalchemy import event, text
from sqlalchemy.orm import Session, SessionTransaction

from app.db import get_engine, transaction
from app.dispatch.choice import has_ready
from app.dispatch.claim import Claim, claim
from app.dispatch.lease import LeaseLost, renew_lease, succeed_finish, succeed_segment
from app.dispatch.queue_snapshot import refresh_queue_snapshot
from app.dispatch.scheduler import run_round
from app.dispatch.worker_registry import heartbeat, register_worker
from app.errors import AppError
from app.jobs.cancel import request_cancel
from app.jobs.find import find_job
from app.jobs.idempotency import OrderIdentity
from app.jobs.plan import FINISH_POOL
from app.jobs.schemas import VideoRequest
from app.jobs.settle import StoredFilm
from app.jobs.submit import submit
from app.settings import get_settings, set_environment
from app.sql_statements import SqlStatement
from tests.load.day import Day
from tests.load.demand import Arrival, Customer, arrivals, open_customers
from tests.load.figures import StepTimes, Tenths

POOL = "synthetic"
GPU_SECONDS_PER_FRAME = 0.25
# A take's length varies by this standard deviation of its logarithm.
SPREAD = 0.2
FINISH_SECONDS = 1.0
LEASE_SECONDS = 120
BEAT_SECONDS = 40.0
ROUND_SECONDS = 10.0
RESTART_SECONDS = 30.0
CRASH_PART = 0.002
# The throwaway cluster has no autovacuum.
VACUUM_JOBS = 5_000
# The mean load of the GPUs. At the peaks of the day there is more to do than they can.
LOAD = 0.85
MEAN_GPU_SECONDS = 16 * GPU_SECONDS_PER_FRAME * 5.6
WAITING = text(
    "SELECT count(*) FROM units WHERE job_id = :job_id AND kind = 'segment' AND state IN ('ready', 'blocked')"
)
OPEN = text(
    "SELECT EXISTS (SELECT FROM jobs WHERE state = 'queued') OR EXISTS (SELECT FROM jobs WHERE state = 'in_progress')"
)
UNITS = SqlStatement("SELECT id, frames FROM units WHERE job_id = :job_id")
METER = {"seconds": {}, "peak_memory_bytes": 0}


class VirtualDay:
    """Runs so many jobs on so many GPUs; `run` returns what it measured."""

    def __init__(self, *, jobs: int, gpus: int, accounts: int, seed: int) -> None:
        self._random, self._jobs_max = Random(seed), jobs
        self._at, self._epoch = 0.0, datetime(2026, 1, 5, tzinfo=UTC)
        self._numbers, self._events = itertools.count(), list[tuple[float, int, Any]]()
        # What a worker has to know: the frames of each segment, and the specification of each job.
        self._frames, self._specs = dict[str, int](), dict[str, dict[str, Any]]()
        # Pools with a wake-up that no worker has answered.
        self._woken = set[str]()
        self.steps = StepTimes()
        set_environment(lease_seconds=LEASE_SECONDS, log_level="ERROR")
        with self.clock():
            self.day = Day(open_customers(accounts))
            self._gpus = [f"gpu-{number}" for number in range(gpus)]
            self._finishers = [f"finisher-{number}" for number in range(max(1, gpus // 8))]
            with transaction() as session:
                for worker in (*self._gpus, *self._finishers):
                    facts = {"host": "virtual", "pid": 1, "device": "virtual", "facts": {}}
                    register_worker(session, worker, pools=self._pools(worker), **facts)
        self._idle = {POOL: list(self._gpus), FINISH_POOL: list(self._finishers)}
        rate = LOAD * gpus / MEAN_GPU_SECONDS
        self._arrivals = arrivals(self._random, accounts, rate)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """During the block every transaction reads the virtual clock, and its wake-ups come to the virtual workers."""

        def begin(session: Session, _transaction: SessionTransaction, _connection: object) -> None:
            session.info["clock_at"] = self._moment()
            session.info["wake"] = self._woken.add

        event.listen(Session, "after_begin", begin)
        try:
            yield
        finally:
            event.remove(Session, "after_begin", begin)

    def _moment(self) -> datetime:
        return self._epoch + timedelta(seconds=self._at)

    def _pools(self, worker: str) -> list[str]:
        return [POOL] if worker.startswith("gpu") else [FINISH_POOL]

    def _later(self, seconds: float, what: Any) -> None:
        heapq.heappush(self._events, (self._at + seconds, next(self._numbers), what))

    def run(self) -> Day:
        """Run until every job has ended; print how fast each tenth of the orders was."""
        self.steps.watch(get_engine())
        self._tenths = Tenths()
        with self.clock():
            self._next_arrival()
            self._later(ROUND_SECONDS, self._round)
            while self._events:
                self._at, _, action = heapq.heappop(self._events)
                action()
                self._answer()
        self.day.seconds = self._at
        return self.day

    def _next_arrival(self) -> None:
        if self.day.jobs < self._jobs_max:
            self.day.jobs += 1
            arrival = next(self._arrivals)
            self._later(max(0.0, arrival.at - self._at), lambda: self._order(arrival))

    def _order(self, arrival: Arrival) -> None:
        customer = self.day.customers[arrival.customer]
        try:
            with self.steps.step("order"), transaction() as session:
                session.add(customer.caller.account)
                request = VideoRequest.model_validate(arrival.body())
                job = submit(session, customer.caller, OrderIdentity(request))
                job_id, segments = job.id, job.units_total
                self._specs[job_id] = job.spec
                self._frames.update((unit.id, unit.frames) for unit in UNITS.run(session, {"job_id": job_id}))
        except AppError:
            self.day.refused += 1
            segments = 0
        if segments:
            self.day.changes(customer.account_id, self._at, segments)
            if arrival.cancelled_after is not None:
                self._later(arrival.cancelled_after, lambda: self._cancel(customer, job_id))
        self._next_arrival()
        ordered = self.steps.counts["order"]
        if ordered % VACUUM_JOBS == 0:
            with self.steps.step("vacuum"):
                vacuum()
        if ordered % max(1, self._jobs_max // 10) == 0:
            self._tenths.print_next(ordered)

    def _cancel(self, customer: Customer, job_id: str) -> None:
        with self.steps.step("cancel"), transaction() as session:
            waiting = session.scalar(WAITING, {"job_id": job_id}) or 0
            try:
                request_cancel(session, find_job(session, customer.caller, job_id, lock=True))
            except AppError:
                return  # It has ended, or is being finished.
        self.day.changes(customer.account_id, self._at, -waiting)

    def _answer(self) -> None:
        """Have idle workers answer the wake-ups, one worker each. Those of a pool without an idle one wait."""
        for pool, idle in self._idle.items():
            while idle and pool in self._woken:
                self._woken.remove(pool)
                self._claim(idle.pop())

    def _claim(self, worker: str, *, is_busy: bool = False) -> None:
        """Have a worker claim: an idle one that was woken, or one whose take has ended (`is_busy`)."""
        pool = self._pools(worker)[0]
        with self.steps.step(f"claim {pool}"), transaction() as session:
            lease = claim(session, worker, [pool])
            if lease is None:
                lasts, account_id = 0.0, ""
                if is_busy:
                    heartbeat(session, worker, state="idle", take_id=None, resident_model=None)
            else:
                lasts, account_id = self._seconds_of(lease), lease.account_id
        if lease is None:
            self._idle[pool].append(worker)
            return
        if lease.kind == "segment":
            self.day.busy_seconds += lasts
            self.day.served[account_id] += lasts
            self.day.changes(account_id, self._at, -1)
        if self._random.random() < CRASH_PART:
            self.day.crashes += 1
            self._later(lasts / 2 + RESTART_SECONDS, lambda: self._claim(worker, is_busy=True))
            return
        self._go_on(worker, lease, lasts)

    def _seconds_of(self, lease: Claim) -> float:
        if lease.kind == "finish":
            return FINISH_SECONDS
        return self._frames[lease.unit_id] * GPU_SECONDS_PER_FRAME * self._random.lognormvariate(0, SPREAD)

    def _go_on(self, worker: str, lease: Claim, seconds: float) -> None:
        """Plan the next heartbeat of a take that lasts so much longer, or its end."""
        if seconds > BEAT_SECONDS:
            self._later(BEAT_SECONDS, lambda: self._beat(worker, lease, seconds - BEAT_SECONDS))
        else:
            self._later(seconds, lambda: self._end(worker, lease))

    def _beat(self, worker: str, lease: Claim, seconds: float) -> None:
        try:
            with self.steps.step("beat"), transaction() as session:
                renew_lease(session, lease, step=1, steps=8, percent=10)
        except LeaseLost:
            self.day.lost_ends += 1
            self._claim(worker, is_busy=True)
            return
        self._go_on(worker, lease, seconds)

    def _end(self, worker: str, lease: Claim) -> None:
        try:
            with self.steps.step(f"end of a {lease.kind}"), transaction() as session:
                if lease.kind == "segment":
                    meter = {**METER, "gpu_seconds": f"{self._frames[lease.unit_id] * GPU_SECONDS_PER_FRAME:.3f}"}
                    succeed_segment(session, lease, clip_key=f"clips/{lease.take_id}", handover_key=None, meter=meter)
                else:
                    film = film_of(lease.job_id, self._specs[lease.job_id])
                    succeed_finish(session, lease, film, meter={**METER, "gpu_seconds": "0"})
        except LeaseLost:
            self.day.lost_ends += 1
        else:
            # A long day has too many of them to keep.
            self._frames.pop(lease.unit_id, None)
            if lease.kind == "finish":
                del self._specs[lease.job_id]
        self._claim(worker, is_busy=True)

    def _round(self) -> None:
        """Run a round of the scheduler, with all heartbeats; an idle worker of each pool looks for work."""
        with self.steps.step("scheduler"):
            with transaction() as session:
                session.execute(text("UPDATE workers SET seen_at = :now"), {"now": self._moment()})
                refresh_queue_snapshot(session)
            run_round()
            with transaction() as session:
                is_open = bool(self._events) or bool(session.scalar(OPEN))
                self._woken.update(
                    pool for pool, idle in self._idle.items() if idle and has_ready(session, [pool], idle[-1])
                )
        if is_open:
            self._later(ROUND_SECONDS, self._round)


def vacuum() -> None:
    """Vacuum and analyze the configured database, however long it takes."""
    with psycopg.connect(get_settings().database_url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute("VACUUM ANALYZE")


def film_of(job_id: str, spec: dict[str, Any]) -> StoredFilm:
    """Return the film that a finish of a job would have stored: all of the frames of its finished shots."""
    return StoredFilm(
        key=f"films/{job_id}",
        poster_key=f"posters/{job_id}",
        sprites_key=f"sprites/{job_id}",
        sha256="0" * 64,
        bytes=1_000_000,
        frames=int(spec["frames"]),
        fps=Fraction(spec["fps"]),
        width=int(spec["width"]),
        height=int(spec["height"]),
        has_audio=True,
        reused_frames=0,
        facts={},
    )


def run_virtual(*, jobs: int, gpus: int, accounts: int, seed: int) -> tuple[Day, StepTimes, float]:
    """Run a virtual day on the configured, empty database; return it, its steps and its real seconds."""
    simulation = VirtualDay(jobs=jobs, gpus=gpus, accounts=accounts, seed=seed)
    began = time.monotonic()
    day = simulation.run()
    return day, simulation.steps, time.monotonic() - began
