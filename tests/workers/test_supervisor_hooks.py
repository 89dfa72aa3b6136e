"""A Celery parent's updates of the database while the database is away."""

import os

import pytest

from app.db import forget_engines, transaction
from app.dispatch.worker_registry import ask_host_to_leave, register_worker
from app.jobs.queue_tables import Worker
from app.settings import get_settings
from tests.workers.worker_processes import wait_until
from workers.supervisor_hooks import parent_name, run_in_background


def test_a_request_to_leave_is_repeated_until_it_is_committed(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workers.supervisor_hooks.RETRY_SECONDS", 0.01)
    child = f"{parent_name(os.getpid())}-1"
    with transaction() as session:
        register_worker(session, child, pools=["demo"], host="here", pid=1, device="cpu", facts={})
    turn_to("postgresql://nobody@127.0.0.1:1/nothing", monkeypatch)
    thread = run_in_background("asked to leave", ask_host_to_leave, retry=True)
    wait_until(lambda: caplog.text.count("could not be asked to leave") > 1, "the database is away")
    turn_to(database_url, monkeypatch)
    thread.join(60)
    with transaction() as session:
        worker = session.get_one(Worker, child)
        assert (worker.drain_requested, worker.leave_at is not None) == (True, True)


def turn_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CINEMETER_DATABASE_URL", url)
    get_settings.cache_clear()
    forget_engines()
