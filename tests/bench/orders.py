"""Measure orders: submissions per second beside pgbench running the same statements, and how soon a take starts.

`python -m tests.bench.orders [--seconds N] [--takes N]` starts servers of its own. Sixteen clients order at once, in as
many threads of two processes, through the function that every interface calls (`app.jobs.submit`); pgbench runs the
recorded statements of one such order, with as many clients. The ratio says what Python costs and holds on any machine.
Then an idle service gets one job after another: the time from the request to the start of the take is measured with
the database's clock. Its workers are then stopped, and the processor time of the API is measured per order and per poll
of a film that waits. Last are the statements of an order, of the ends of a segment and a film, and of a heartbeat.
"""

import argparse
import multiprocessing
import os
import subprocess
import tempfile
import threading
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, perf_counter
from typing import Any

import psycopg
from psycopg import ClientCursor
from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account, set_limits
from app.accounts.caller import Caller
from app.cli.server_binaries import postgres_programs
from app.db import get_engine, transaction
from app.dispatch.lease import renew_lease
from app.dispatch.worker_registry import register_worker
from app.jobs.idempotency import OrderIdentity
from app.jobs.schemas import VideoRequest
from app.jobs.submit import submit
from app.prices.seed import seed_book
from app.settings import child_environment, get_settings
from tests.bench.money import ACCOUNT, bench_servers, open_accounts
from tests.bench.pgbench_script import script
from tests.live_service import Service, follow, start, stop
from tests.statement_count import end_film, end_segment, next_claim, order, recorded_statements

CLIENTS = 16
PROCESSES = 2
# Orders of each client before the time is taken: connections, prepared statements, and what a process reads once.
WARM_UP = 20
SCOPES = frozenset({"videos"})


def caller_of(account_id: str) -> Caller:
    """Return a caller of an account, as an API interface has authenticated it before the order."""
    with transaction() as session:
        return Caller(get_account(session, account_id), SCOPES, frozenset())


def order_one(session: Session, caller: Caller) -> None:
    """Order one film as an API interface does."""
    asked = VideoRequest(model="synthetic", prompt="bars", seconds=5, resolution="720P")
    submit(session, caller, OrderIdentity(asked))


def order_for(numbers: list[int], seconds: float, ready: Any, found: Any) -> None:
    """Order from a thread for each of these accounts for some seconds; put how long each order took into `found`.

    The seconds begin when all threads of all processes have ordered WARM_UP times and wait at `ready`.
    """
    took: list[float] = []

    def client(number: int) -> None:
        caller = caller_of(ACCOUNT.format(number))
        for _ in range(WARM_UP):
            with transaction() as session:
                order_one(session, caller)
        ready.wait()
        until = monotonic() + seconds
        while monotonic() < until:
            began = perf_counter()
            with transaction() as session:
                order_one(session, caller)
            took.append(perf_counter() - began)

    threads = [threading.Thread(target=client, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.put(took)


def submissions(seconds: float) -> list[float]:
    """Return the seconds of every order that sixteen clients in two processes made meanwhile."""
    context = multiprocessing.get_context("spawn")
    found, ready = context.Queue(), context.Barrier(CLIENTS)
    parts = [list(range(1, CLIENTS + 1))[number::PROCESSES] for number in range(PROCESSES)]
    workers = [context.Process(target=order_for, args=(part, seconds, ready, found)) for part in parts]
    for worker in workers:
        worker.start()
    took = [each for _ in workers for each in found.get(timeout=seconds + 120)]
    for worker in workers:
        worker.join()
    return took


def seen_statements() -> list[str]:
    """Return the statements of one order, with their values in place."""
    sent: list[tuple[str, Any]] = []
    caller = caller_of(ACCOUNT.format(1))

    def see(_connection: Connection, _cursor: object, statement: str, parameters: Any, _: object, many: bool) -> None:
        sent.extend((statement, each) for each in (parameters if many else [parameters]))

    with Session(get_engine()) as session:
        event.listen(get_engine(), "before_cursor_execute", see)
        try:
            order_one(session, caller)
            session.flush()
        finally:
            event.remove(get_engine(), "before_cursor_execute", see)
        session.rollback()
    with psycopg.connect(get_settings().database_url) as plain:
        cursor = ClientCursor(plain)
        return [cursor.mogrify(statement, parameters) for statement, parameters in sent]


def pgbench(seconds: float, folder: Path) -> list[float]:
    """Run the script with as many clients as ours; return the seconds of each transaction."""
    path = folder / "orders.sql"
    path.write_text(script(seen_statements(), accounts=CLIENTS), encoding="utf-8")
    command = [
        *(str(postgres_programs() / "pgbench"), "--no-vacuum", "--protocol=prepared", f"--file={path}", "--log"),
        *(f"--client={CLIENTS}", "--jobs=2", f"--time={max(1, round(seconds))}", get_settings().database_url),
    ]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=child_environment(), check=False)
    if answer.returncode or "aborted" in answer.stderr:
        raise RuntimeError(f"pgbench failed: {answer.stderr.strip()[-2000:]}")
    took = []
    for log in folder.glob("pgbench_log.*"):
        took += [int(row.split()[2]) / 1e6 for row in log.read_text().splitlines()]
        log.unlink()
    return took


def compare_orders(seconds: float, folder: Path) -> None:
    """Print orders per second beside pgbench's, in turns, so that a busy machine is as busy for both."""
    open_accounts(CLIENTS)
    with transaction() as session:
        seed_book(session)
        for number in range(1, CLIENTS + 1):
            set_limits(session, ACCOUNT.format(number), concurrency=None, queue_limit=10_000_000)
    ours, theirs = [], []
    for _ in range(2):
        ours += submissions(seconds / 2)
        theirs += pgbench(seconds / 2, folder)
    for name, took in (("orders", ours), ("pgbench with the same statements", theirs)):
        print(f"{name}: {len(took) / seconds:.0f}/s with {CLIENTS} clients, {spread(took)}")
    print(f"ratio {len(ours) / len(theirs):.2f} ({os.cpu_count()} processors)")


def spread(seconds: list[float]) -> str:
    """Return the middle and the slowest hundredth, in milliseconds."""
    return f"p50 {median(seconds) * 1000:.1f} ms, p99 {quantiles(seconds, n=100)[98] * 1000:.1f} ms"


WAITED = """
    SELECT extract(epoch FROM t.started_at - j.created_at)::float8 FROM jobs j JOIN takes t ON t.job_id = j.id
    WHERE j.id = %s AND t.kind = 'segment' ORDER BY t.fence LIMIT 1
"""


def time_starts(takes: int, folder: Path) -> None:
    """Print how long an order waits for its take on an idle system, and for its answer."""
    service = start(folder / "home")
    waited, answered = [], []
    try:
        with service.client("enterprise") as client, psycopg.connect(service.servers()["database_url"]) as database:
            for _ in range(takes + 1):
                began = perf_counter()
                body = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
                video = client.post("/v1/videos", json=body).raise_for_status().json()
                answered.append(perf_counter() - began)
                follow(client, video["id"])
                waited += [row[0] for row in database.execute(WAITED, (video["id"],))]
                database.rollback()
    finally:
        stop(service)
    # The first one loads the model.
    print(f"idle system: an order is answered in {spread(answered[1:])}")
    print(f"idle system: its take starts after {spread(waited[1:])} ({takes} orders)")


def time_processor(calls: int, folder: Path) -> None:
    """Print the processor time that the processes of the API use for an order, and for a poll of a queued film."""
    service = start(folder / "processor")
    body = {"model": "synthetic", "prompt": "bars", "seconds": 5, "resolution": "720P"}
    try:
        with service.client("enterprise") as client:
            stopped = [*service.processes("worker"), *service.processes("worker-child")]
            for process in stopped:
                process.suspend()

            def create() -> str:
                video: dict[str, Any] = client.post("/v1/videos", json=body).raise_for_status().json()
                return str(video["id"])

            def poll() -> None:
                client.get(f"/v1/videos/{queued}").raise_for_status()

            queued = create()
            for name, call in (("an order", create), ("a poll of a queued film", poll)):
                for _ in range(calls // 5):
                    call()
                before = api_seconds(service)
                for _ in range(calls):
                    call()
                print(f"processor time of the API: {name} {(api_seconds(service) - before) / calls * 1000:.1f} ms")
            for process in stopped:
                process.resume()
    finally:
        stop(service)


def api_seconds(service: Service) -> float:
    """Return the processor seconds that the API's processes have used."""
    processes = {each.pid: each for api in service.processes("api") for each in (api, *api.children(recursive=True))}
    return sum(each.cpu_times().user + each.cpu_times().system for each in processes.values())


def print_statements() -> None:
    """Print how many statements an order, the ends of a segment and a film, and a heartbeat send."""
    engine = get_engine()
    with transaction() as session:
        caller = Caller(get_account(session, ACCOUNT.format(1)), SCOPES, frozenset())
        register_worker(session, "worker-1", pools=["finish"], host="here", pid=1, device="cpu", facts={})
        # The films of the orders before are not made.
        session.execute(text("DELETE FROM units WHERE state = 'ready'"))
    counts = [len(order(engine, caller)) for _ in range(2)]
    lease = next_claim(engine)
    with recorded_statements(engine) as beats, transaction() as session:
        renew_lease(session, lease, step=1, steps=8, percent=10)
    segment = end_segment(engine, lease)
    film = [end_film(engine, next_claim(engine), frames=32)]
    end_segment(engine, next_claim(engine))
    film.append(end_film(engine, next_claim(engine), frames=32))
    print(
        f"statements: an order {counts[-1]}, the end of a segment {len(segment)}, of a film {len(film[-1])}, "
        f"a heartbeat {len(beats)}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="per side")
    parser.add_argument("--takes", type=int, default=50)
    parser.add_argument("--calls", type=int, default=200, help="per processor time")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        time_starts(asked.takes, Path(place))
        time_processor(asked.calls, Path(place))
    with bench_servers() as folder:
        compare_orders(asked.seconds, folder)
        print_statements()


if __name__ == "__main__":
    main()
