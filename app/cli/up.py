"""`cinemeter up`: servers, migrations, first accounts and all roles in one process tree, until Ctrl-C."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.cli.client import answers
from app.cli.embedded import EmbeddedServers
from app.cli.home import ADDRESS_RECORD, is_claimed, read_record, write_record
from app.cli.migrate import upgrade
from app.cli.ports import free_port
from app.cli.seed import seed
from app.cli.server_urls import own_servers
from app.cli.subprocesses import end, spawn
from app.cli.supervisor import ProcessRole, Supervisor, stop_signals
from app.db import transaction
from app.errors import AppError
from app.settings import child_environment, get_settings, set_environment
from app.web.password_links import welcome_links

READY_PATH = "/readyz"
_READY_SECONDS = 120.0
_END_SECONDS = 60.0
Say = Callable[[str], None]


def run_up(home: Path, port: int | None, *, say: Say, ready: Callable[[dict[str, Any]], None]) -> None:
    """Start everything, hand what a user needs to `ready` once requests are answered, and stay until a signal.

    That is `base_url`, `keys` by account, and `links` for the first visit to the pages.
    `port` None takes the configured one, or a free one where that is taken; 0 takes a free one.
    Raises AppError `conflict` for a home or port in use, `unavailable` for a part that does not come up.
    """
    home = home.absolute()
    say(f"Starting PostgreSQL and Redis in {home} …")
    with own_servers(home) as servers:
        settings = set_environment(port=_choose_port(port))
        upgrade()
        keys = seed(home)
        with transaction() as session:
            links = welcome_links(session)
        record = {"base_url": settings.base_url(), "keys": keys, "links": links}
        tree = Supervisor(roles(), home, say)
        with stop_signals(tree.stopping):
            try:
                say("Starting api, scheduler, courier and worker …")
                tree.start()
                tree.wait_until(lambda: answers(_local_url() + READY_PATH), _READY_SECONDS)
                if not tree.stopping.is_set():
                    write_record(home / ADDRESS_RECORD, record)
                    ready(record)
                tree.run(lambda: _tend(servers, say))
            finally:
                (home / ADDRESS_RECORD).unlink(missing_ok=True)
                say("Ending …")
                tree.stop()


def roles() -> list[ProcessRole]:
    """Return the roles of one machine, in the order in which they start."""
    command = [sys.executable, "-P", "-m", "app.cli.serve"]
    first = get_settings().metrics_port

    def environment(number: int) -> dict[str, str]:
        # One machine, one port of metrics for each.
        return child_environment(**({"metrics_port": first + number} if first else {}))

    return [
        ProcessRole("api", [*command, "api"], environment(0)),
        ProcessRole("scheduler", [*command, "scheduler"], environment(1)),
        ProcessRole("courier", [*command, "courier"], environment(2), patience_seconds=20.0),
        # Killed with the tree, a worker has no database left to say goodbye to; its leases run out instead.
        ProcessRole("worker", [*command, "worker"], environment(3), patience_seconds=30.0, death_signal=signal.SIGKILL),
    ]


@contextmanager
def running_service(home: Path) -> Iterator[dict[str, Any]]:
    """Give the base URL and keys of a service on this home: the one that is up, or one that ends with the block.

    Raises AppError `unavailable` if it does not come up; what it said is on standard error.
    """
    if is_claimed(home):
        record = read_record(home / ADDRESS_RECORD)
        if not record:
            raise AppError("unavailable", f"Cinemeter is starting or ending in {home}; try again in a moment.")
        yield record
        return
    command = [
        sys.executable,
        "-P",
        "-m",
        "app.cli.main",
        "up",
        "--json",
        "--port",
        "0",
        "--home",
        str(home.absolute()),
    ]
    child = spawn(command, folder=Path.cwd(), environment=child_environment(), piped=True)
    try:
        assert child.stdout is not None
        if not child.stdout.readline():
            child.wait()
            raise AppError("unavailable", "The service did not come up; `cinemeter doctor` looks for the reason.")
        yield read_record(home / ADDRESS_RECORD)
    finally:
        end(child, (signal.SIGTERM, _END_SECONDS))
        if child.stdout:
            child.stdout.close()


def _tend(servers: EmbeddedServers | None, say: Say) -> None:
    for name in servers.tend() if servers else ():
        say(f"{name} had ended; it runs again.")


def _choose_port(wanted: int | None) -> int:
    settings = get_settings()
    host = settings.host
    if wanted is None:
        return free_port(settings.port, host)
    port = free_port(wanted, host)
    if wanted and port != wanted:
        raise AppError("conflict", f"Port {wanted} is in use. Give another --port, or 0 for a free one.", port=wanted)
    return port


def _local_url() -> str:
    settings = get_settings()
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://{host}:{settings.port}"
