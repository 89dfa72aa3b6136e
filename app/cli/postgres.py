"""Embedded PostgreSQL: a real server as a child process, on the loopback address, with a password."""

import secrets
import shutil
import signal
import time
from pathlib import Path

from app.cli.ports import free_port
from app.cli.subprocesses import ProcessOwner, ServerProcess, is_ours, spawn, stop_leftover
from app.errors import AppError

USER = "cinemeter"
DATABASE = "cinemeter"
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_START_SECONDS = 60.0
# A throwaway cluster is never read again after a crash, so it need not survive one.
_THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}


class Postgres(ServerProcess):
    """One cluster in one folder.

    It listens on 127.0.0.1 only, without a socket file: the folder's path may then have any length and contain spaces,
    and every connection needs the password (SCRAM).
    """

    # Fast shutdown first; immediate shutdown (recovery at the next start) if a backend hangs.
    STOP_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0))

    def __init__(
        self,
        programs: Path,
        folder: Path,
        log: Path,
        *,
        password: str,
        owner: ProcessOwner | None,
        throwaway: bool = False,
    ) -> None:
        super().__init__()
        self.programs = programs
        self.folder = folder
        self.data = folder / "data"
        self.log = log
        self.password = password
        self.owner = owner
        self.throwaway = throwaway

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self, port: int = 0) -> None:
        """Create the cluster if needed, stop what a killed run left behind, and start on `port` or on a free port.

        Raises AppError `unavailable` with the end of the server's log if it does not start.
        """
        if not self.data.exists():
            self._create()
        self._recover()
        for attempt in range(5):
            self.port = free_port(port if attempt == 0 else 0)
            self._launch()
            if self._wait():
                return
            self.stop()
            # Backends of a killed server take a moment to exit, and another process may bind the port meanwhile.
            time.sleep(0.5)
        raise AppError("unavailable", f"PostgreSQL did not start. Last lines of {self.log}:\n{log_tail(self.log)}")

    def _create(self) -> None:
        # An incomplete cluster keeps its draft name, so it is never mistaken for a complete one.
        draft = self.folder / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        secret = self.folder / f".password-{secrets.token_hex(4)}"
        secret.touch(mode=0o600)
        secret.write_text(self.password, encoding="utf-8")
        if self.owner:
            shutil.chown(secret, self.owner.uid, self.owner.gid)
        try:
            self._run(
                *("initdb", "--pgdata", draft, "--username", USER, "--pwfile", secret),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-instructions"),
                *(("--no-sync",) if self.throwaway else ()),
            )
        finally:
            secret.unlink()
        self._run("postgres", "--single", "-D", draft, "postgres", stdin=f"CREATE DATABASE {DATABASE};\n".encode())
        draft.rename(self.data)

    def _run(self, program: str, *arguments: str | Path, stdin: bytes | None = None) -> None:
        process = spawn(
            [self.programs / program, *arguments],
            folder=self.folder,
            environment=_ENVIRONMENT,
            log=self.log,
            owner=self.owner,
            stdin=stdin,
        )
        if process.wait() != 0:
            raise AppError("unavailable", f"{program} failed. Last lines of {self.log}:\n{log_tail(self.log)}")

    def _recover(self) -> None:
        pid_file = self.data / "postmaster.pid"
        pid = _leading_number(pid_file)
        if pid is None:
            return
        stop_leftover(pid, self.data, *self.STOP_STEPS, (signal.SIGKILL, 5.0))
        # PostgreSQL trusts any living process with that id; we know whether it is one of ours.
        if not is_ours(pid, self.data):
            pid_file.unlink(missing_ok=True)

    def _launch(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_checkpoints": "off",
            **(_THROWAWAY if self.throwaway else {}),
        }
        self.process = spawn(
            [self.programs / "postgres", "-D", self.data, *(f"--{name}={value}" for name, value in options.items())],
            folder=self.data,
            environment=_ENVIRONMENT,
            log=self.log,
            owner=self.owner,
            death_signal=signal.SIGINT,
        )

    def _wait(self) -> bool:
        # The server writes its state to its pid file; line 8 is `ready` once it accepts connections.
        pid_file = self.data / "postmaster.pid"
        deadline = time.monotonic() + _START_SECONDS
        while self.running() and time.monotonic() < deadline:
            try:
                lines = pid_file.read_text(encoding="utf-8", errors="replace").splitlines()
            except FileNotFoundError:
                lines = []
            if self.process and len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(0.02)
        return False


def _leading_number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8", errors="replace").split(maxsplit=1)[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def log_tail(log: Path, lines: int = 12) -> str:
    """Return the last lines of a log file, for an error message."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
