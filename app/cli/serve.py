"""The roles as processes: `cinemeter api | worker | scheduler | courier`, in production and under `up`.

Each role imports its modules when it starts, so that it does not load the libraries of the others.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from app.db import name_process
from app.logs import set_up_logs
from app.metrics import serve_metrics
from app.settings import child_environment, get_settings
from app.wakeups import queue_name


def run_api() -> None:
    """Serve HTTP until a signal asks to stop; requests in flight are answered first, open streams end at once."""
    from app.cli.api_server import serve_site

    name_process("api")
    set_up_logs("api")
    serve_metrics("api")
    serve_site()


def run_worker() -> NoReturn:
    """Replace this process by a Celery worker for the configured pools.

    The application never imports `workers`; it passes the module's name to Celery's own command. Gossip, mingle and
    Celery's heartbeats are off: a worker's row in the database, not its messages, shows whether it is alive.
    """
    settings = get_settings()
    pools = [pool.strip() for pool in settings.pools.split(",") if pool.strip()]
    arguments = [
        *(sys.executable, "-m", "celery", "--app", "workers.main", "--quiet", "worker"),
        *("--queues", ",".join(queue_name(pool) for pool in pools)),
        *("--loglevel", settings.log_level.upper()),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    os.execve(sys.executable, arguments, child_environment())


def run_scheduler() -> None:
    """Run dispatch, maintenance and daily totals until a stop signal. Of several schedulers, one leads."""
    from app.dispatch.gauges import DatabaseGauges
    from app.dispatch.scheduler import run_scheduler as run

    name_process("scheduler")
    set_up_logs("scheduler")
    serve_metrics("scheduler", [DatabaseGauges()])
    run(stop_event())


def run_courier() -> None:
    """Deliver webhooks until a stop signal."""
    from app.webhooks.courier import run_courier as run

    name_process("courier")
    set_up_logs("courier")
    serve_metrics("courier")
    run()


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def set_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, set_stop)
    signal.signal(signal.SIGINT, set_stop)
    return stop


ROLES: dict[str, Callable[[], None]] = {
    "api": run_api,
    "worker": run_worker,
    "scheduler": run_scheduler,
    "courier": run_courier,
}

if __name__ == "__main__":
    ROLES[sys.argv[1]]()
