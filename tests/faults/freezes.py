"""Faults in which a process stands still: stopped for longer than its transactions may last, then cut off."""

import contextlib
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import psutil

from tests.faults.environment import IDLE_SECONDS, Ground

# How long a role stands still: longer than its transactions may.
FROZEN_SECONDS = IDLE_SECONDS + 2.0
# How long a console may take until it answers: it may have started just now.
START_SECONDS = 60.0
THREADS = 4


class Freezes:
    """Freezes of each role of a service."""

    ground: Ground
    random: random.Random
    top_ups: list[str]  # references of the top-ups that were answered

    def freeze_api(self) -> None:
        """Stop the API in the middle of requests for longer than the time-outs, then cut its lines to the database."""
        with self._customers():
            self._stand_still("api")

    def freeze_scheduler(self) -> None:
        """Stop the scheduler that leads, or the one that stands by, and then cut its lines to the database."""
        self._stand_still("scheduler", count=1)

    def freeze_courier(self) -> None:
        """Stop the courier, and then cut its lines to the database."""
        self._stand_still("courier")

    def freeze_console(self) -> None:
        """Stop the API process that operators use in the middle of top-ups, then cut its lines to the database."""
        with self._operators():
            self._stand_still("console")

    def _stand_still(self, role: str, *, count: int | None = None) -> None:
        """Stop a role for longer than the time-outs; when it goes on, its lines to the database pass nothing."""
        processes = self.ground.processes(role)
        chosen = processes if count is None else self.random.sample(processes, min(count, len(processes)))
        self._freeze(chosen, FROZEN_SECONDS)
        self._cut_lines(chosen)

    def _cut_lines(self, processes: list[psutil.Process]) -> None:
        """Pass nothing more on the connections of these processes to the database."""
        wire = self.ground.wires["postgres"]
        ports: set[int] = set()
        for process in processes:
            with contextlib.suppress(psutil.Error):
                lines = process.net_connections("tcp")
                ports |= {line.laddr.port for line in lines if line.raddr and line.raddr.port == wire.own_port}
        wire.vanish(ports)

    @contextlib.contextmanager
    def _operators(self) -> Iterator[None]:
        """Top up a customer's wallet at the console's process, from several threads during the block."""
        account_id = self.ground.ask("SELECT account_id FROM wallets ORDER BY account_id LIMIT 1")[0][0]
        path, done = f"/v1/admin/accounts/{account_id}/top_ups", threading.Event()
        stop = threading.Event()

        def top_up() -> None:
            with self.ground.console() as client:
                while not stop.is_set():
                    reference = f"storm {secrets.token_hex(8)}"
                    body = {"amount": "1.00", "kind": "purchased", "reference": reference}
                    with contextlib.suppress(httpx.HTTPError):
                        if client.post(path, json=body, timeout=5).status_code == 201:
                            self.top_ups.append(reference)
                            done.set()

        with _threads(top_up, stop):
            assert done.wait(START_SECONDS), "the console answers nothing"
            yield

    @contextlib.contextmanager
    def _customers(self) -> Iterator[None]:
        """Ask the API for quotes, which lock what orders lock, from several threads during the block."""
        stop = threading.Event()
        body = {"model": "storm", "prompt": "a quote", "seconds": 1, "resolution": "480P"}

        def ask() -> None:
            with self.ground.service.client("enterprise") as client:
                while not stop.is_set():
                    with contextlib.suppress(httpx.HTTPError):
                        client.post("/v1/quotes", json=body, timeout=5)

        with _threads(ask, stop):
            yield

    def _freeze(self, processes: list[psutil.Process], seconds: float) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        time.sleep(seconds)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


@contextlib.contextmanager
def _threads(act: Callable[[], None], stop: threading.Event) -> Iterator[None]:
    """Run `act` in several threads during the block, then set `stop` and wait for them."""
    threads = [threading.Thread(target=act, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
