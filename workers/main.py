"""Celery entry point: `celery -A workers.main worker`. Settings, signals, drain, and the death of a child."""

import logging
import os
from typing import Any

from billiard.exceptions import WorkerLostError
from billiard.util import get_logger as get_multiprocessing_logger
from celery.signals import (
    celeryd_after_setup,
    setup_logging,
    task_failure,
    worker_process_init,
    worker_process_shutdown,
    worker_shutting_down,
)

from app.db import forget_engines, transaction
from app.dispatch.worker_registry import ask_host_to_leave, release_takes_of_child
from app.logs import set_up_logs
from app.metrics import serve_metrics
from app.process_role import name_process
from app.settings import get_settings, keep_from_children
from app.wakeups import make_celery
from workers.beats import ChildMonitor, late_seconds
from workers.supervisor_hooks import parent_name, run_in_background
from workers.temp_dirs import beats_folder
from workers.watchdog import start_watchdog
from workers.worker_loop import start_worker, stop_worker

log = logging.getLogger(__name__)

# How long a parent that ends waits for its request to be written to the worker registry.
REQUEST_SECONDS = 5.0

name_process("worker")
set_up_logs("worker")
pools = [pool.strip() for pool in get_settings().pools.split(",") if pool.strip()]
celery_app = make_celery(pools)
celery_app.conf.include = ["workers.tasks"]


@setup_logging.connect
def _logs_are_set_up(**_: Any) -> None:
    # A listener here sets logs up instead of Celery, whose handlers write lines of another form.
    logger = get_multiprocessing_logger()
    logger.propagate = True
    logger.setLevel(logging.WARNING)


@celeryd_after_setup.connect
def _children_set_up_their_own(**_: Any) -> None:
    # Celery asks billiard by this variable to write to stderr in every child, even where another listener sets logs up.
    keep_from_children("_MP_FORK_LOGLEVEL_")


@celeryd_after_setup.connect
def _parent_watches(**_: Any) -> None:
    late = late_seconds(get_settings().lease_seconds)
    ChildMonitor(beats_folder(os.getpid()), late_seconds=late).start()


@worker_process_init.connect
def _child_starts(**_: Any) -> None:
    try:
        # torch is imported from here on, in the child alone: a forked or pre-imported CUDA cannot be used.
        worker = start_worker(f"{parent_name(os.getppid())}-{os.getpid()}", pools)
    except Exception:
        # Celery would keep a child without a worker loop, which drops its wake-ups. A fresh one tries again.
        log.exception("This worker process could not register, and ends.")
        os._exit(1)
    release_takes_of_predecessor()
    # The child counts, so the child is scraped; the parent only supervises it.
    serve_metrics("worker")
    worker.warm_up()
    start_watchdog(os.getppid())


def release_takes_of_predecessor() -> None:
    """Release what a dead child of the same parent was working on.

    A take that it began without a wake-up is no task of Celery's, so no failed task reports its death.
    """
    try:
        with transaction() as session:
            release_takes_of_child(session, parent_name(os.getppid()))
    except Exception as error:  # noqa: BLE001 — leases and the scheduler do the same, only later.
        log.warning("The takes of this process's predecessor could not be released: %s", error)


@worker_process_shutdown.connect
def _child_ends(**_: Any) -> None:
    stop_worker()
    forget_engines()


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    # The parent cannot reach into the child's step loop; the child reads with its next heartbeat that it shall leave.
    # While the database is away this is tried again: the parent lives for as long as a child works.
    run_in_background("asked to leave", ask_host_to_leave, retry=True).join(REQUEST_SECONDS)


@task_failure.connect
def _child_died(exception: BaseException | None = None, **_: Any) -> None:
    # The parent sees a killed child within seconds; its take need not wait for the lease to run out.
    if isinstance(exception, WorkerLostError):
        # Tried once: where the database is away, leases run out and the scheduler does the same, only later.
        run_in_background("released", release_takes_of_child)
