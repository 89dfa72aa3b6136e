"""The roles as processes: `cinemeter api | worker | scheduler | courier`, in production and under `up`.

Each role imports its modules when it starts, so that it does not load the libraries of the others.
"""

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from app.logs import set_up_logs
from app.metrics import METRICS_FOLDER, forget_process, serve_metrics, serve_summed_metrics
from app.process_role import name_process
from app.settings import Settings, child_environment, get_settings
from app.wakeups import queue_name

# The exit code of an API that cannot start, as uvicorn's.
DID_NOT_START = 3


def run_api() -> None:
    """Serve HTTP until a signal asks to stop; requests in flight are answered first, open streams end at once.

    With several processes, this one starts and replaces them (SIGHUP); else it serves by itself.
    """
    settings = get_settings()
    name_process("api")
    set_up_logs("api")
    if settings.api_process_count() > 1:
        _run_api_processes(settings)
        return
    from app.cli.api_server import serve_site

    # There is nothing to replace; the default would end the process without its grace.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    serve_metrics("api")
    serve_site()


def _run_api_processes(settings: Settings) -> None:
    from app.cli.api_processes import ApiProcesses, DidNotStart, open_listener

    log = logging.getLogger("cinemeter.api")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cinemeter-metrics-"))
        try:
            listener = stack.enter_context(open_listener(settings.host, settings.port))
        except OSError as error:
            log.error("The API cannot listen on %s:%s: %s", settings.host, settings.port, error)
            sys.exit(DID_NOT_START)
        serve_summed_metrics("api", folder)
        count = settings.api_process_count()
        log.info("The API runs as %s processes on http://%s:%s", count, *listener.getsockname()[:2])
        command = [sys.executable, "-P", "-m", "app.cli.serve", "api-process"]
        environment = {**child_environment(metrics_port=0, api_processes=count), METRICS_FOLDER: folder}
        processes = ApiProcesses(command, count, listener, environment, on_end=lambda pid: forget_process(folder, pid))
        try:
            processes.run()
        except DidNotStart:
            sys.exit(DID_NOT_START)


def run_api_process() -> None:
    """Serve HTTP as one of the processes that `run_api` starts: over its socket, with signs of life."""
    from app.cli.api_server import serve_site

    name_process("api", processes=get_settings().api_process_count())
    set_up_logs("api")
    serve_site(listener=int(sys.argv[2]), alive=int(sys.argv[3]))


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


def run_scheduler(*, keeps_pod_costs: bool = False) -> None:
    """Run dispatch, maintenance and daily totals until a stop signal. Of several schedulers, one leads.

    With `keeps_pod_costs`, the one that leads tells Kubernetes which pods of workers to end last.
    """
    from app.dispatch.gauges import DatabaseGauges
    from app.dispatch.pod_costs import PodCosts
    from app.dispatch.scheduler import run_scheduler as run

    name_process("scheduler")
    set_up_logs("scheduler")
    serve_metrics("scheduler", [DatabaseGauges()])
    run(stop_event(), PodCosts() if keeps_pod_costs else None)


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
    "api-process": run_api_process,
    "worker": run_worker,
    "scheduler": run_scheduler,
    "courier": run_courier,
}

if __name__ == "__main__":
    ROLES[sys.argv[1]]()
