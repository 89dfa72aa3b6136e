"""Faults in which a process stands still: stopped for longer than its transactions may last, then cut off."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator

import httpx
import psutil
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.wallet.funds import top_up
from tests.faults.environment import IDLE_SECONDS, Ground

# How long a role stands still: longer than its transactions may.
FROZEN_SECONDS = IDLE_SECONDS + 2.0


class Freezes:
    """Freezes of each role of a service."""

    ground: Ground
    random: random.Random

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
        """A top-up in the console stands still with the wallet locked, on a line that is cut as well."""
        with contextlib.suppress(DBAPIError), self.ground.session(over_wire=True) as session:
            account_id = session.scalar(text("SELECT account_id FROM wallets ORDER BY account_id LIMIT 1"))
            top_up(session, str(account_id), 100, kind="purchased", reference=f"frozen {time.monotonic()}")
            session.flush()
            self._cut_lines([psutil.Process()])
            time.sleep(FROZEN_SECONDS)
            session.invalidate()

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
    def _customers(self) -> Iterator[None]:
        """Ask the API for quotes, which lock what orders lock, from several threads during the block."""
        stop = threading.Event()
        body = {"model": "storm", "prompt": "a quote", "seconds": 1, "resolution": "480P"}

        def ask() -> None:
            with self.ground.service.client("enterprise") as client:
                while not stop.is_set():
                    with contextlib.suppress(httpx.HTTPError):
                        client.post("/v1/quotes", json=body, timeout=5)

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        yield
        stop.set()
        for thread in threads:
            thread.join()

    def _freeze(self, processes: list[psutil.Process], seconds: float) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        time.sleep(seconds)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
