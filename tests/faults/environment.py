"""The ground under a storm: real PostgreSQL, Redis and S3, each behind a wire, and the roles of a service on it.

`cinemeter up` runs api, scheduler, courier and a worker; a second scheduler stands by and a finisher works beside them.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from app.cli.embedded import EmbeddedServers
from app.cli.ports import free_port
from app.cli.postgres import DATABASE, USER
from app.settings import child_environment
from tests.contracts.storage_servers import ACCESS_KEY, SECRET_KEY, rclone
from tests.faults.tcp_proxy import Wire
from tests.live_service import Service, start, stop

LEASE_SECONDS = 4
# The time-out after which the database ends a frozen transaction, shorter than in production as the lease is.
IDLE_SECONDS = 3
CATALOG = Path(__file__).parent / "catalog"


@dataclass
class Ground:
    """The service, what it stands on, and the helpers that run beside `up`."""

    folder: Path
    servers: EmbeddedServers
    wires: dict[str, Wire]
    environment: dict[str, str]
    service: Service = field(init=False)
    helpers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    console_port: int = field(default_factory=free_port)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def database_url(self) -> str:
        """The database's own address, past the wire."""
        return self.servers.postgres.url

    @property
    def redis_url(self) -> str:
        return self.servers.redis.url

    def helper(self, name: str, role: str, **settings: str) -> subprocess.Popen[bytes]:
        """Run a further process of a role. It leads a session of its own, so that it ends with its children."""
        if role == "api":
            settings = {"CINEMETER_PORT": str(self.console_port), **settings}
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.cli.serve", role],
                env={**os.environ, **self.environment, **settings},  # noqa: TID251 — a child's environment
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.helpers[name] = process
        return process

    def end_helper(self, name: str) -> None:
        """kill -9 a helper and all its children."""
        process = self.helpers.pop(name, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def tend(self) -> None:
        """Start again what has died, as whoever runs these in production does."""
        self.restart_servers()
        # Two faults at once: what one of them has started the other must not start again.
        with self._lock:
            for name, process in list(self.helpers.items()):
                if process.poll() is not None and name in LASTING:
                    self.helper(name, *LASTING[name][:1], **LASTING[name][1])

    def restart_servers(self) -> None:
        """Start the servers again that have stopped."""
        with self._lock:
            self.servers.restart_stopped()

    def ask(self, query: str, *values: Any, fallback: Any = None) -> list[Any]:
        """The rows of a query, or one row with the fallback while the database is away."""
        try:
            with psycopg.connect(self.database_url, autocommit=True, connect_timeout=5) as connection:
                return connection.execute(query.encode(), values).fetchall()
        except psycopg.OperationalError:
            return [(fallback,)]

    def shorten_time_outs(self) -> None:
        """Have the database end frozen transactions after IDLE_SECONDS, and every role connect anew."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(
                f"ALTER ROLE {USER} IN DATABASE {DATABASE} SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'"
            )
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )

    def console(self) -> httpx.Client:
        """An operator's client of the API process that serves operators alone."""
        url = f"http://127.0.0.1:{self.console_port}"
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {self.service.keys['admin']}"})

    def processes(self, role: str) -> list[psutil.Process]:
        """The processes of a role under `up`, and those of the helpers of that role."""
        found = self.service.processes(role)
        for process in list(self.helpers.values()):
            with contextlib.suppress(psutil.Error):
                found += _of_role(psutil.Process(process.pid), role)
        return found

    def audit(self) -> int:
        """The exit status of the audit: 0 when everything agrees."""
        command = [sys.executable, "-m", "app.cli.main", "audit", "--home", str(self.service.home)]
        direct = {"CINEMETER_DATABASE_URL": self.database_url, "CINEMETER_REDIS_URL": self.redis_url}
        return subprocess.run(
            command, check=False, env={**child_environment(), **self.environment, **direct}
        ).returncode


# Helpers that are started again whenever they fall, with their role and settings.
LASTING: dict[str, tuple[str, dict[str, str]]] = {
    "finisher": ("worker", {"CINEMETER_POOLS": "finish"}),
    "standby": ("scheduler", {}),
    "console": ("api", {"CINEMETER_API_PROCESSES": "1"}),
}


def _of_role(process: psutil.Process, role: str) -> list[psutil.Process]:
    command = process.cmdline()
    if role == "scheduler":
        return [process] if command[-1:] == ["scheduler"] else []
    if role == "console":
        return [process, *process.children(recursive=True)] if command[-1:] == ["api"] else []
    if role == "finisher":
        is_worker = "workers.main" in command or command[-1:] == ["worker"]
        return [child for child in process.children() if _spawned(child)] if is_worker else []
    return []


def _spawned(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any("spawn_main" in part for part in process.cmdline())
    return False


@contextlib.contextmanager
def ground(folder: Path, **settings: str) -> Iterator[Ground]:
    """Stand a whole service on wires for the block."""
    folder.mkdir(parents=True, exist_ok=True)
    servers = EmbeddedServers(folder / "servers")
    servers.start()
    with contextlib.ExitStack() as stack:
        stack.callback(servers.remove)
        s3 = stack.enter_context(rclone(folder / "s3"))
        wires = {
            "postgres": Wire(servers.postgres.port),
            "redis": Wire(servers.redis.port),
            "storage": Wire(s3.port),
        }
        for wire in wires.values():
            stack.callback(wire.close)
        environment = {
            "CINEMETER_DATABASE_URL": _over(servers.postgres.url, wires["postgres"]),
            "CINEMETER_REDIS_URL": _over(servers.redis.url, wires["redis"]),
            "CINEMETER_STORAGE_URL": f"s3://storm/films?endpoint=http://127.0.0.1:{wires['storage'].own_port}",
            "CINEMETER_S3_ACCESS_KEY": ACCESS_KEY,
            "CINEMETER_S3_SECRET_KEY": SECRET_KEY,
            "CINEMETER_LEASE_SECONDS": str(LEASE_SECONDS),
            "CINEMETER_HEARTBEAT_SECONDS": "1",
            "CINEMETER_TAKES_LOST_MAX": "1000",
            "CINEMETER_TAKES_ERROR_MAX": "1000",
            "CINEMETER_CATALOG_DIR": str(CATALOG),
            "CINEMETER_HOME": str(folder / "home"),
            "CINEMETER_SECRET": "a secret for this storm alone, long enough",
            **settings,
        }
        made = Ground(folder, servers, wires, environment)
        made.service = start(folder / "home", **environment, CINEMETER_POOLS="synthetic")
        stack.callback(stop, made.service)
        made.shorten_time_outs()
        try:
            for name, (role, more) in LASTING.items():
                made.helper(name, role, **more)
            yield made
        finally:
            for name in list(made.helpers):
                made.end_helper(name)


def _over(url: str, wire: Wire) -> str:
    """The same address, but through the wire."""
    head, _, tail = url.rpartition("@")
    _, _, path = tail.partition("/")
    return f"{head}@127.0.0.1:{wire.own_port}/{path}"
