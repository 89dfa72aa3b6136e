"""Measure an audit: receipts per second with two processes, and what the next audit reads of the month that was sealed.

`python -m tests.bench.audit [--receipts N] [--profile]` starts servers of its own. Sixty films of ten
accounts are ordered, made and settled by the code (lengths, resolutions, tiers, memberships, free seconds, a promotion,
cancelled and failed ones); the others are copies of them, spread over a month that is over. Equal inputs of a price
share one computation, so copies cost less than films whose prices all differ.
"""

import argparse
import cProfile
import logging
import os
import pstats
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.clock import now
from app.db import get_engine, transaction
from app.reports.parallel_audit import AuditReport, audit_in_parallel
from app.reports.replay import replay_receipts
from tests.bench.money import bench_servers
from tests.ledger_simulation import Line

MILLION = 1_000_000
MINUTES_MAX = 8
# Every id ends in its own random letters; a copy has the number of the copy in place of the last six of them, in every
# column and inside every body, so that copies agree with each other as the originals do.
COPY = r"""
    INSERT INTO {table} SELECT c.* FROM {table} AS r, generate_series(1, :count) AS n,
        jsonb_populate_record(NULL::{table}, regexp_replace(to_jsonb(r)::text,
            '((video|acct|period|hold|lot|transfer|take|unit|quote|slice|event|evt)_[0-9a-z]{{18}})[0-9a-z]{{6}}',
            '\1' || lpad(n::text, 6, '0'), 'g')::jsonb || jsonb_build_object({changes})) AS c
"""
# Tables whose rows are copied, with the columns that get a time later in the month.
COPIED: dict[str, tuple[str, ...]] = {
    "accounts": (),
    "wallets": (),
    "membership_periods": (),
    "jobs": ("created_at", "started_at", "finished_at", "start_by", "not_after"),
    "units": (),
    "takes": ("started_at", "ended_at"),
    "receipts": ("settled_at",),
    "events": (),
    "holds": ("created_at", "resolved_at"),
    "transfers": ("at",),
    "credit_lots": (),
    "hold_slices": (),
    "free_uses": (),
    "reservations": ("created_at", "resolved_at"),
    "shares": (),
    "submissions": (),
}
FRESH = {"takes": "fence", "receipts": "number"}
DAYS = 25
READ = ("receipts", "jobs", "events", "takes", "transfers", "holds", "hold_slices", "reservations")


def make_films(session: Session) -> int:
    """Order and settle sixty films of all kinds, early in a month that is over. Returns how many."""
    first = now(session).replace(day=1, hour=1) - timedelta(days=35)
    session.info["clock_at"] = first.replace(day=1)
    line = Line(session)
    memberships = ("free", "professional", "studio", "enterprise", "professional")
    callers = [
        line.open(f"Audited {number}", membership=memberships[number % 5], credit=10_000_000) for number in range(10)
    ]
    for number in range(60):
        order_one(line, callers[number % 10], number)
        if number % 20 == 19:
            line.work()
    line.work()
    with_receipt = session.execute(text("SELECT count(*) FROM receipts")).scalar_one()
    session.commit()
    return int(with_receipt)


def order_one(line: Line, caller: Caller, number: int) -> None:
    """Order a film that differs from the ones before it, and let some fail or be cancelled."""
    fields: dict[str, Any] = {
        "seconds": 1 + number % 9,
        "resolution": ("720P", "480P", "1080P")[number % 3],
        "service_tier": ("standard", "standard", "priority", "flex")[number // 10 % 4],
    }
    job = line.order(caller, **fields)
    if number % 20 == 7:
        line.cancel(caller, job.id)
    if number % 20 == 13 and (claim := line.start()) is not None and claim.kind == "segment":
        line.fail(claim)


def copy_films(copies: int) -> None:
    """Copy everything that often, spread over the month."""
    with transaction() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        for table, times in COPIED.items():
            step = f"n * interval '{DAYS} days' / {max(1, copies)}"
            changes = [f"'{name}', r.{name} + {step}" for name in times]
            if table in FRESH:
                sequence = f"pg_get_serial_sequence('{table}', '{FRESH[table]}')"
                changes.append(f"'{FRESH[table]}', nextval({sequence})")
            session.execute(text(COPY.format(table=table, changes=", ".join(changes))), {"count": copies})
    with get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def rows_read() -> int:
    """Return how many rows of history were read so far, by scans and by indices."""
    get_engine().dispose()
    query = text(
        "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_user_tables WHERE relname = ANY (:names)"
    )
    with get_engine().connect() as connection:
        return int(connection.execute(query, {"names": list(READ)}).scalar_one())


def database_seconds() -> float:
    """Return the processor time of the database's sessions that have ended."""
    get_engine().dispose()
    with get_engine().connect() as connection:
        first_line = "SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)"
        postmaster = Path(f"/proc/{connection.execute(text(first_line)).scalar_one()}/stat")
    get_engine().dispose()
    ticks = -1
    while True:
        # After the name in brackets: state is field 3, the user and system ticks of ended children are 16 and 17.
        fields = postmaster.read_text().rpartition(")")[2].split()
        before, ticks = ticks, int(fields[13]) + int(fields[14])
        if ticks == before:
            return ticks / os.sysconf("SC_CLK_TCK")
        # A session is counted when its process has ended.
        sleep(2)


@dataclass
class Measured:
    """An audit's report, its seconds, and the processor time of Python and of PostgreSQL."""

    report: AuditReport
    seconds: float
    python: float
    database: float


def measure(*, trust_seals: bool = False) -> Measured:
    """Audit with two processes."""
    database, python = database_seconds(), sum(os.times()[:4])
    began = perf_counter()
    report = audit_in_parallel(processes=2, trust_seals=trust_seals)
    seconds, python = perf_counter() - began, sum(os.times()[:4]) - python
    assert report.findings == [], report.findings[:3]
    return Measured(report, seconds, python, database_seconds() - database)


def time_audit(count: int) -> bool:
    """Print how fast two processes audit, and what the audits after it read. Returns whether it was fast enough."""
    with Session(get_engine(), expire_on_commit=False) as session:
        films = make_films(session)
    copy_films(max(0, round(count / films) - 1))
    load = f"{os.cpu_count()} processors, load before {os.getloadavg()[0]:.1f}"
    first = measure()
    done = first.report.receipts
    minutes = first.seconds * MILLION / done / 60
    print(
        f"audit of {done} receipts in 2 processes: {first.seconds:.1f} s, {done / first.seconds:.0f}/s;"
        f" a million: {minutes:.1f} minutes (at most {MINUTES_MAX}); {load}"
    )
    before = rows_read()
    second = measure()
    print(f"the next audit, digests compared: {second.seconds:.1f} s, {rows_read() - before} rows of history read")
    before = rows_read()
    third = measure(trust_seals=True)
    print(f"the next audit, --trust-seals: {third.seconds:.1f} s, {rows_read() - before} rows of history read")
    assert second.report.receipts == third.report.receipts == 0
    # The second audit starts the same processes, and computes nothing.
    python, database = (first.python - second.python) / done, first.database / done
    print(
        f"processor time per receipt: {python * 1e6:.0f} µs of Python, {database * 1e6:.0f} µs of PostgreSQL;"
        f" so a million with two processors free: {(python + database) / 2 * MILLION / 60:.1f} minutes"
    )
    return minutes <= MINUTES_MAX


def profile_replay(count: int) -> None:
    """Print where the time of one process goes."""
    with Session(get_engine(), expire_on_commit=False) as session:
        films = make_films(session)
    copy_films(max(0, round(count / films) - 1))
    with transaction() as session:
        began = process_time()
        done, _ = replay_receipts(session)
        print(f"{(process_time() - began) * 1e6 / done:.0f} µs of Python's processor time per receipt, unprofiled")
    with transaction() as session, cProfile.Profile() as profile:
        replay_receipts(session)
    pstats.Stats(profile).sort_stats("tottime").print_stats(35)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receipts", type=int, default=20_000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with bench_servers():
        if options.profile:
            profile_replay(options.receipts)
            return 0
        return 0 if time_audit(options.receipts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
