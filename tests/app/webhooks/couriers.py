"""Couriers that really run: one in a thread of this process, or one as a process that can be killed."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Self

from app.net import Egress
from app.webhooks.courier import Courier, CourierLimits

LOOSE = Egress(allow_private=True, strict_urls=False)
QUICK = CourierLimits(seconds=1.0, lease_seconds=20.0, poll_seconds=0.02)


@contextmanager
def courier_thread(limits: CourierLimits = QUICK, *, seconds: float | None = None) -> Iterator[None]:
    """Run a courier in a thread; at the end of the block it has drained and recorded everything."""
    limits = limits if seconds is None else replace(limits, seconds=seconds)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(Courier(limits=limits, egress=LOOSE).run(stop)), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class CourierProcess:
    """`run_courier()` in a process of its own, on the configured database; private addresses are allowed."""

    def __init__(self, *, timeout_seconds: float = 2.0) -> None:
        settings = {"CINEMETER_WEBHOOK_ALLOW_PRIVATE": "1", "CINEMETER_WEBHOOK_TIMEOUT_SECONDS": str(timeout_seconds)}
        program = "from app.webhooks.courier import run_courier; run_courier()"
        environment = dict(os.environ) | settings  # noqa: TID251
        self._process = subprocess.Popen([sys.executable, "-c", program], env=environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._process.kill()
        self._process.wait(10)

    def terminate(self) -> int:
        """Ask it to end and return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)
