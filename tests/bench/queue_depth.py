"""Measure what a deep queue costs: an order, a poll, a list of 20 and a claim with many units waiting, beside none.

`python -m tests.bench.queue_depth [--units N] [--accounts N] [--rounds N]` starts servers of its own. An API process
answers for each of the two databases, in turns; between the turns the scheduler's snapshot of each is refreshed once a
second. The ratios hold on any machine; each is to be at most 1.3.
"""

import argparse
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from time import perf_counter

import httpx
from sqlalchemy import text

from app.accounts.accounts import create_account, set_limits
from app.accounts.keys import issue_key
from app.accounts.memberships import grant_membership
from app.clock import now
from app.db import transaction
from app.dispatch.claim import claim
from app.dispatch.queue_snapshot import refresh_queue_snapshot
from app.dispatch.worker_registry import register_worker
from app.prices.seed import seed_book
from app.settings import get_settings
from app.wallet.balance import open_wallet
from app.wallet.funds import top_up
from tests.bench.api_process import api_process
from tests.bench.money import bench_servers
from tests.bench.pairs import Pair, print_ratio, vacuum

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 5, "resolution": "720P"}
POOLS = ["synthetic"]


def open_account() -> str:
    """Open an account with money and a worker for its films; return its key."""
    with transaction() as session:
        seed_book(session)
        account = create_account(session, "Bench")
        open_wallet(session, account.id)
        top_up(session, account.id, 10**9, kind="purchased", reference="bench")
        grant_membership(session, account.id, "enterprise", starts_at=now(session) - timedelta(days=1))
        set_limits(session, account.id, concurrency=None, queue_limit=1_000_000)
        facts = {"host": "here", "pid": 1, "device": "cpu", "facts": {}}
        register_worker(session, "worker-1", pools=["finish", *POOLS], **facts)
        return issue_key(session, account.id, scopes=("videos",))[1]


def deepen(units: int, accounts: int) -> None:
    """Copy one queued job that often, spread over so many accounts, as rows that a forecast and a claim see."""
    with transaction() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        job, account = session.execute(text("SELECT id, account_id FROM jobs WHERE state = 'queued' LIMIT 1")).one()
        whose = f"'acct_q' || (1 + n % {accounts})"
        moment = "now() - interval '1 hour' + n * interval '1 ms'"
        copies: list[tuple[str, str, int, dict[str, str]]] = [
            ("accounts", "id", accounts, {"id": "'acct_q' || n", "name": "'Q' || n"}),
            ("shares", "account_id", accounts, {"account_id": "'acct_q' || n", "vtime": "n % 100"}),
            ("jobs", "job", units, {"id": "'video_q' || n", "account_id": whose, "created_at": moment}),
            (
                *("units", "unit", units),
                {"id": "'unit_q' || n", "job_id": "'video_q' || n", "account_id": whose, "queued_at": moment},
            ),
        ]
        wheres = {"id": "s.id = :account", "account_id": "s.account_id = :account", "job": "s.id = :job"}
        wheres["unit"] = "s.job_id = :job"
        columns = text(
            "SELECT column_name FROM information_schema.columns WHERE table_name = :table ORDER BY ordinal_position"
        )
        for table, where, count, values in copies:
            names = session.scalars(columns, {"table": table}).all()
            picked = ", ".join(values.get(name, f's."{name}"') for name in names)
            listed = ", ".join(f'"{name}"' for name in names)
            copy = f"INSERT INTO {table} ({listed}) SELECT {picked} FROM {table} AS s, generate_series(1, {count}) AS n"
            session.execute(text(f"{copy} WHERE {wheres[where]}"), {"job": job, "account": account})
        session.execute(text("DELETE FROM lanes"))
        session.execute(
            text(
                "INSERT INTO lanes (pool, class, account_id, model, ready)"
                " SELECT pool, class, account_id, model, count(*) FROM units WHERE state = 'ready' GROUP BY 1, 2, 3, 4"
            )
        )
    vacuum()


def refresh() -> float:
    """Refresh the snapshot as the scheduler does; return the seconds."""
    began = perf_counter()
    with transaction() as session:
        refresh_queue_snapshot(session)
    return perf_counter() - began


def claim_one() -> None:
    """Claim a unit and give it back."""
    with transaction() as session:
        claim(session, "worker-1", POOLS)
        session.rollback()


def refresh_after_claim() -> None:
    """Refresh the snapshot when a queue has changed."""
    with transaction() as session:
        session.execute(
            text("UPDATE lanes SET ready = ready WHERE account_id = (SELECT min(account_id) FROM api_keys)")
        )
    refresh()


class Measured:
    """The same actions through the API of each database; `video` is a film that waits in both."""

    def __init__(self, clients: Mapping[str, httpx.Client], video: str) -> None:
        self._clients = clients
        self._video = video

    def actions(self) -> dict[str, Callable[[], object]]:
        """Return what is measured, by name."""
        return {
            "POST": lambda: self._client.post("/v1/videos", json=ORDER).raise_for_status(),
            "GET": lambda: self._client.get(f"/v1/videos/{self._video}").raise_for_status(),
            "list of 20": lambda: self._client.get("/v1/videos?limit=20").raise_for_status(),
            "claim": claim_one,
        }

    @property
    def _client(self) -> httpx.Client:
        return self._clients[get_settings().database_url]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=50_000)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=400)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with bench_servers() as folder, ExitStack() as stack:
        headers = {"Authorization": f"Bearer {open_account()}"}
        with api_process(folder / "first") as (_, port), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            orders = [client.post("/v1/videos", json=ORDER, headers=headers).raise_for_status() for _ in range(25)]
        pair = Pair.copy_configured()
        refresh()
        vacuum()
        pair.use(pair.filled)
        deepen(options.units, options.accounts)
        first, again = refresh() * 1000, refresh() * 1000
        queue = f"{options.units} units of {options.accounts} accounts"
        print(f"first snapshot of {queue}: {first:.0f} ms; the next one: {again:.0f} ms")
        clients = {}
        for url in (pair.plain, pair.filled):
            _, port = stack.enter_context(api_process(folder / url.rpartition("/")[2], database_url=url))
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60)
            clients[url] = stack.enter_context(client)
        measured = Measured(clients, orders[-1].json()["id"])
        results = pair.measure(measured.actions(), rounds=options.rounds, each_second=refresh)
        snapshots = pair.measure({"snapshot, a queue of 25 and more changed": refresh_after_claim}, rounds=10)
    for name, (plain, filled) in results.items():
        print_ratio(name, plain, filled, bar=1.3, what=f"{options.units} units waiting")
    for name, (plain, filled) in snapshots.items():
        print(f"      {name}: {plain:.1f} ms, {filled:.1f} ms with {options.units} units waiting")


if __name__ == "__main__":
    main()
