"""Measure the money: holds per second beside pgbench running the same statements, and a simulation of a million jobs.

`python -m tests.bench.money [--seconds N] [--receipts N]` starts embedded servers of its own. The statements are those
that one hold was seen to send, so that the two sides cannot drift apart; the ratio says what Python costs, and holds
on any machine.
"""

import argparse
import multiprocessing
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import psycopg
from psycopg import ClientCursor
from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session

from app.accounts.tables import Account
from app.cli.embedded import embedded
from app.cli.migrate import upgrade
from app.cli.server_binaries import postgres_programs
from app.clock import local_now, now, remember_now
from app.db import allow_long, forget_engines, get_engine, new_id, transaction
from app.prices.find import book_at
from app.prices.seed import seed_book
from app.reports.simulation import simulate_book
from app.settings import child_environment, get_settings, set_environment
from app.wallet.audit import audit_wallet
from app.wallet.balance import open_wallet
from app.wallet.funds import top_up
from app.wallet.hold import place_holds
from tests.bench.pgbench_script import script

CLIENTS = 8
PROCESSES = 2
# Holds of each client before the time is taken: connections, and prepared statements.
WARM_UP = 20
WALLETS = (1, 1000)

ACCOUNT, JOB = "acct_{}", "job_{}"


def open_accounts(count: int) -> None:
    """Open accounts whose ids are their numbers, each with more money than the bench can hold."""
    with transaction() as session:
        for number in range(1, count + 1):
            zone = get_settings().billing_zone
            account = Account(
                id=ACCOUNT.format(number),
                name=f"Bench {number}",
                kind="prepaid",
                currency="CNY",
                billing_zone=zone,
                created_at=now(session),
            )
            session.add(account)
            session.flush()
            open_wallet(session, account.id)
            top_up(session, account.id, 10**12, kind="purchased", reference=f"bench {number}")


def hold_one(session: Session, account_id: str, job_id: str) -> None:
    """Hold an amount as an order does, which has read the account and the clock before."""
    remember_now(session, local_now())
    place_holds(session, {job_id: 100}, account_id=account_id, month="2026-05", currency="CNY")


def hold_for(clients: int, seed: int, wallets: int, seconds: float, ready: Any, found: Any) -> None:
    """Hold from so many threads, each job on a random wallet; put how many were committed per second into `found`.

    The seconds begin when all threads of all processes have held WARM_UP times and wait at `ready`.
    """
    rates = [0.0] * clients

    def client(which: int) -> None:
        random, count = Random(seed + which), 0

        def act() -> None:
            with transaction() as session:
                hold_one(session, ACCOUNT.format(random.randint(1, wallets)), new_id("job"))

        for _ in range(WARM_UP):
            act()
        ready.wait()
        started = monotonic()
        while monotonic() < started + seconds:
            act()
            count += 1
        rates[which] = count / (monotonic() - started)

    threads = [threading.Thread(target=client, args=(which,)) for which in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.put(sum(rates))


def holds_per_second(wallets: int, seconds: float) -> float:
    """Hold from CLIENTS threads of PROCESSES processes, as the processes of an API do; return how many a second."""
    context = multiprocessing.get_context("spawn")
    found, ready = context.Queue(), context.Barrier(CLIENTS)
    each = CLIENTS // PROCESSES
    workers = [
        context.Process(target=hold_for, args=(each, each * number, wallets, seconds, ready, found))
        for number in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    rates = [found.get(timeout=seconds + 120) for _ in workers]
    for worker in workers:
        worker.join()
    return float(sum(rates))


def seen_statements() -> list[str]:
    """Return the statements of one hold, with their values in place."""
    sent: list[tuple[str, object]] = []

    def see(_connection: Connection, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        sent.append((statement, parameters))

    with Session(get_engine()) as session:
        event.listen(get_engine(), "before_cursor_execute", see)
        try:
            hold_one(session, ACCOUNT.format(1), JOB.format(1))
        finally:
            event.remove(get_engine(), "before_cursor_execute", see)
        session.rollback()
    with psycopg.connect(get_settings().database_url) as plain:
        cursor = ClientCursor(plain)
        return [cursor.mogrify(statement, parameters) for statement, parameters in sent]  # type: ignore[arg-type]


def pgbench_per_second(wallets: int, seconds: float, folder: Path) -> float:
    """Run the script with as many clients as ours, and return its transactions per second."""
    path = folder / f"holds_{wallets}.sql"
    path.write_text(script(seen_statements(), accounts=wallets), encoding="utf-8")
    command = [
        *(str(postgres_programs() / "pgbench"), "--no-vacuum", "--protocol=prepared", f"--file={path}"),
        *(f"--client={CLIENTS}", "--jobs=2", f"--time={max(1, round(seconds))}", get_settings().database_url),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False)
    found = re.search(r"tps = ([0-9.]+)", answer.stdout)
    if answer.returncode or found is None:
        raise RuntimeError(f"pgbench failed: {answer.stderr.strip()[-2000:]}")
    return float(found.group(1))


def compare_holds(seconds: float, folder: Path) -> None:
    """Print holds per second beside pgbench's, in turns, so that a busy machine is as busy for both."""
    open_accounts(max(WALLETS))
    for wallets in WALLETS:
        ours = theirs = 0.0
        for _ in range(2):
            ours += holds_per_second(wallets, seconds / 2) / 2
            theirs += pgbench_per_second(wallets, seconds / 2, folder) / 2
        name = "one hot wallet" if wallets == 1 else f"{wallets} wallets"
        print(f"holds, {name}: {ours:.0f}/s, pgbench {theirs:.0f}/s, ratio {ours / theirs:.2f}")
    with transaction() as session:
        assert audit_wallet(session) == [], "the ledger must agree after the run"
    print("the ledger agrees")


# A year of jobs of a thousand accounts: ten lengths, two resolutions, three tiers, three memberships.
RECEIPTS = text(
    """
    INSERT INTO receipts (job_id, account_id, outcome, currency, quoted, total, list_total, body, pricing_case,
                          priced_at, gpu_milliseconds, test, settled_at)
    SELECT 'job_sim_' || n, 'acct_' || (1 + n % 1000), 'completed', 'CNY', 1000, 500, 1000, '{}',
           json_build_array('synthetic', CASE WHEN n % 7 < 5 THEN '720P' ELSE '1080P' END, 't2v', false,
                            CAST(1 + n % 10 AS text), '0',
                            (ARRAY['standard', 'standard', 'flex', 'priority'])[1 + (n / 10) % 4], true,
                            (ARRAY['free', 'professional', 'studio'])[1 + (n / 1000) % 3], '', '0')::text,
           :until - (n % 31536000) * interval '1 second', 15000, false, :until - (n % 31536000) * interval '1 second'
    FROM generate_series(1, :count) AS n
    """
)


def time_simulation(count: int) -> None:
    """Print how long a simulation of so many past jobs takes, from rows to result."""
    with transaction() as session:
        allow_long(session)
        seed_book(session)
        # The receipts stand without jobs here; the database is thrown away.
        session.execute(text("ALTER TABLE receipts DROP CONSTRAINT fk_receipts_job_id"))
        # A receipt gets its number by itself when its transaction commits, each with a search: not for a million.
        session.execute(text("ALTER TABLE receipts DISABLE TRIGGER receipts_are_numbered"))
        session.execute(RECEIPTS, {"count": count, "until": now(session)})
    with get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE receipts"))
    with transaction() as session:
        moment = now(session)
        book = book_at(session, moment).book
        started = monotonic()
        found = simulate_book(session, book, since=moment - timedelta(days=400), until=moment + timedelta(days=1))
        took = monotonic() - started
    assert found.whole.jobs + sum(each.jobs for each in found.refused) == count
    print(f"simulation of {count} past jobs: {took:.1f} s in {found.groups} prices ({os.cpu_count()} processors)")


@contextmanager
def bench_servers(*, throwaway: bool = False) -> Iterator[Path]:
    """Start embedded servers for the block and point the settings at them; `throwaway` skips the disk."""
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder) / "home", throwaway=throwaway) as servers:
        set_environment(database_url=servers.database_url, redis_url=servers.redis_url)
        upgrade()
        yield Path(folder)
        forget_engines()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="per side and number of wallets")
    parser.add_argument("--receipts", type=int, default=1_000_000, help="of the simulation")
    asked = parser.parse_args()
    with bench_servers() as folder:
        compare_holds(asked.seconds, folder)
        time_simulation(asked.receipts)


if __name__ == "__main__":
    main()
