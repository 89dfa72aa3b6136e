"""Measure what the past costs: scheduler rounds, take starts, claims, orders and scrapes beside a database without one.

`python -m tests.bench.history [--takes N] [--workers N] [--rounds N]` starts servers of its own and measures on two
databases in turns. With past takes a round of the scheduler and the start of a take may take 1.3 times as long; with
rows of past workers a claim, an order and a scrape 1.2 times. Of the updates of `takes` 90 % are to be HOT.
"""

import argparse
import logging
import tempfile
from pathlib import Path

from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import text

from app.api.application import create_app
from app.db import allow_long, forget_engines, transaction
from app.dispatch.claim import claim
from app.dispatch.gauges import DatabaseGauges
from app.dispatch.leader import Leadership
from app.dispatch.lease import renew_lease
from app.dispatch.scheduler import record_forecasts, refresh_snapshot, resend_lost_wakeups, run_round
from app.settings import set_environment
from tests.bench.money import bench_servers
from tests.bench.pairs import Pair, print_ratio, vacuum
from tests.bench.queue_depth import ORDER, POOLS, claim_one, open_account
from workers.segment_input import read_segment_input
from workers.segment_take import queue_seconds

BEATS = 200
# Past jobs have three units and four takes each.
UNITS, TAKES = 3, 4


def add_takes(count: int) -> None:
    """Add so many takes that ended, with the units and jobs they belong to, as copies of one job that waits."""
    jobs = count // TAKES
    moment = "now() - n * interval '1 minute'"
    ended = {"state": "'completed'", "created_at": moment, "started_at": moment, "finished_at": moment}
    with transaction() as session:
        allow_long(session)
        session.execute(text("SET LOCAL session_replication_role = replica"))
        job_id = session.scalar(text("SELECT job_id FROM takes LIMIT 1"))
        columns = text("SELECT column_name FROM information_schema.columns WHERE table_name = :table")
        copies = [
            ("jobs", "id", jobs, {"id": "'video_p' || n", **ended, "promote_at": "NULL", "not_after": "NULL"}),
            (
                *("units", "job_id", jobs * UNITS),
                {
                    "id": "'unit_p' || n",
                    "job_id": f"'video_p' || (n - 1) / {UNITS} + 1",
                    "position": f"(n - 1) % {UNITS}",
                    "state": "'done'",
                    "queued_at": moment,
                },
            ),
            (
                *("takes", "job_id", count),
                {
                    "id": "'take_p' || n",
                    "unit_id": f"'unit_p' || (n - 1) * {UNITS} / {TAKES} + 1",
                    "job_id": f"'video_p' || (n - 1) / {TAKES} + 1",
                    "state": "'succeeded'",
                    "ended_at": moment,
                    "started_at": moment,
                    "share_settled": "true",
                    "fence": "nextval(pg_get_serial_sequence('takes', 'fence'))",
                },
            ),
        ]
        for table, key, rows, values in copies:
            names = session.scalars(columns, {"table": table}).all()
            picked = ", ".join(values.get(name, f's."{name}"') for name in names)
            listed = ", ".join(f'"{name}"' for name in names)
            session.execute(
                text(
                    f"INSERT INTO {table} ({listed}) SELECT {picked}"
                    f" FROM (SELECT * FROM {table} WHERE {key} = :job LIMIT 1) AS s, generate_series(1, {rows}) AS n"
                ),
                {"job": job_id},
            )
    vacuum()


def add_workers(count: int) -> None:
    """Add rows of so many worker processes that ended within the last day."""
    with transaction() as session:
        allow_long(session)
        session.execute(
            text(
                "INSERT INTO workers (id, pools, host, pid, device, state, drain_requested, started_at, seen_at, facts)"
                """ SELECT 'gone' || n, '["synthetic", "finish"]', 'host', n, 'cpu', 'gone', false,"""
                " now() - interval '1 hour', now() - interval '1 hour', '{}' FROM generate_series(1, :count) AS n"
            ),
            {"count": count},
        )
    vacuum()


def scheduler_round() -> None:
    """Do what a scheduler that leads does each second."""
    leadership = Leadership("scheduler")
    assert leadership.acquire()
    resend_lost_wakeups(leadership)
    run_round(leadership)
    refresh_snapshot(leadership)
    record_forecasts(leadership)
    leadership.leave()


def start_take() -> None:
    """Claim a segment and read what its take reads before it renders; then give it back."""
    with transaction() as session:
        lease = claim(session, "worker-1", POOLS)
        assert lease is not None
        queue_seconds(session, read_segment_input(session, lease.unit_id), lease)
        session.rollback()


def hot_share() -> tuple[int, int]:
    """Render beats of a take; return the HOT updates of `takes`, and all of them."""
    with transaction() as session:
        lease = claim(session, "worker-1", POOLS)
    assert lease is not None
    for beat in range(BEATS):
        with transaction() as session:
            renew_lease(session, lease, step=beat, steps=BEATS)
    # What a connection counted is seen once it has ended.
    forget_engines()
    with transaction() as session:
        counts = text("SELECT n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables WHERE relname = 'takes'")
        hot, updates = session.execute(counts).one()
    return hot, updates


def compare(client: TestClient, options: argparse.Namespace) -> None:
    """Measure on both databases and print."""
    registry = CollectorRegistry()
    registry.register(DatabaseGauges())
    pair = Pair.copy_configured()
    pair.use(pair.filled)
    add_takes(options.takes)
    actions = {"scheduler round": scheduler_round, "take start": start_take}
    for name, times in pair.measure(actions, rounds=options.rounds).items():
        print_ratio(name, *times, bar=1.3, what=f"{options.takes} past takes")
    pair.use(pair.filled)
    add_workers(options.workers)
    actions = {
        "claim": claim_one,
        "order": lambda: client.post("/v1/videos", json=ORDER).raise_for_status(),
        "scrape": lambda: generate_latest(registry),
    }
    for name, times in pair.measure(actions, rounds=options.rounds).items():
        print_ratio(name, *times, bar=1.2, what=f"{options.workers} past workers and {options.takes} takes")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--takes", type=int, default=300_000, help="that ended")
    parser.add_argument("--workers", type=int, default=100_000, help="processes that ended")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as home, bench_servers():
        set_environment(secret="a secret of this bench", home=Path(home), log_level="ERROR", device="cpu")
        headers = {"Authorization": f"Bearer {open_account()}"}
        with TestClient(create_app(), headers=headers) as client:
            for _ in range(5):
                client.post("/v1/videos", json=ORDER).raise_for_status()
            hot, updates = hot_share()
            compare(client, options)
    mark = "pass" if hot >= 0.9 * updates else "MISS"
    print(f"{mark}  HOT updates of takes: {hot} of {updates}, {100 * hot / updates:.0f} % (bar 90 %)")


if __name__ == "__main__":
    main()
