"""`cinemeter up`: servers, migrations, sample accounts and all roles in one process tree, until Ctrl-C."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.cli.api_processes import STOP_SECONDS
from app.cli.client import answers
from app.cli.embedded import EmbeddedServers
from app.cli.home import ADDRESS_RECORD, is_claimed, read_record, write_record
from app.cli.migrate import upgrade
from app.cli.ports import reserved_port
from app.cli.seed import seed
from app.cli.server_urls import own_servers
from app.cli.subprocesses import spawn, stop_process
from app.cli.supervisor import ProcessRole, Supervisor, stop_signals
from app.db import transaction
from app.errors import AppError
from app.settings import child_environment, get_settings, set_environment
from app.web.password_links import welcome_links

READY_PATH = "/readyz"
_READY_SECONDS = 120.0
_STOP_SECONDS = 60.0
Say = Callable[[str], None]


def run_up(home: Path, port: int | None, *, say: Say, ready: Callable[[dict[str, Any]], None]) -> None:
    """Start everything, call `ready` once requests are answered, and run until a signal.

    `ready` gets `base_url`, `keys` by account, and `links` with which members set their first password.
    `port` None uses the configured port, or a free one if that is in use; 0 uses a free one.
    Raises AppError `conflict` for a home or port in use, `unavailable` for a part that does not start.
    """
    home = home.absolute()
    say(f"Starting PostgreSQL and Redis in {home} …")
    # Until the API listens, seconds pass in which another process would be given a port that is only known to be free.
    with own_servers(home) as servers, _api_port(port) as number:
        settings = set_environment(port=number)
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
                tree.run(lambda: _restart_servers(servers, say))
            finally:
                (home / ADDRESS_RECORD).unlink(missing_ok=True)
                say("Stopping …")
                tree.stop()


def roles() -> list[ProcessRole]:
    """Return the roles of one machine, in the order in which they start."""
    command = [sys.executable, "-P", "-m", "app.cli.serve"]
    first = get_settings().metrics_port

    def environment(number: int) -> dict[str, str]:
        # On one machine each role needs its own metrics port.
        return child_environment(**({"metrics_port": first + number} if first else {}))

    return [
        # Longer than the API gives its own processes.
        ProcessRole("api", [*command, "api"], environment(0), stop_seconds=STOP_SECONDS + 5),
        ProcessRole("scheduler", [*command, "scheduler"], environment(1)),
        ProcessRole("courier", [*command, "courier"], environment(2), stop_seconds=20.0),
        # A worker killed with the tree has no database left to sign off from; its leases expire instead.
        ProcessRole("worker", [*command, "worker"], environment(3), stop_seconds=30.0, death_signal=signal.SIGKILL),
    ]


@contextmanager
def running_service(home: Path) -> Iterator[dict[str, Any]]:
    """Yield the base URL and keys of a service on this home: the running one, or one that runs during the block.

    Raises AppError `unavailable` if it does not start; its output is on standard error.
    """
    if is_claimed(home):
        record = read_record(home / ADDRESS_RECORD)
        if not record:
            raise AppError("unavailable", f"Cinemeter is starting or stopping in {home}. Try again in a moment.")
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
            raise AppError("unavailable", "The service did not start. Run `cinemeter doctor` to find the reason.")
        yield read_record(home / ADDRESS_RECORD)
    finally:
        stop_process(child, (signal.SIGTERM, _STOP_SECONDS))
        if child.stdout:
            child.stdout.close()


def _restart_servers(servers: EmbeddedServers | None, say: Say) -> None:
    for name in servers.restart_stopped() if servers else ():
        say(f"{name} exited and was restarted.")


@contextmanager
def _api_port(wanted: int | None) -> Iterator[int]:
    settings = get_settings()
    with reserved_port(settings.port if wanted is None else wanted, settings.host) as port:
        if wanted and port != wanted:
            message = f"Port {wanted} is in use. Pass another --port, or 0 for a free one."
            raise AppError("conflict", message, port=wanted)
        yield port


def _local_url() -> str:
    settings = get_settings()
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://{host}:{settings.port}"
