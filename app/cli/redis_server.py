"""Embedded Redis: a real server as a child process, on the loopback address, with a password, nothing on disk."""

import signal
import time
from pathlib import Path

from redis import Redis, RedisError

from app.cli.home import read_record, write_record
from app.cli.ports import free_port
from app.cli.postgres import log_tail
from app.cli.subprocesses import ProcessOwner, ServerProcess, spawn, stop_leftover
from app.errors import AppError

_START_SECONDS = 15.0


class RedisServer(ServerProcess):
    """One server in one folder. It stores only wake-ups and progress, which can be lost, so nothing is on disk."""

    def __init__(
        self, program: Path, folder: Path, log: Path, *, password: str, owner: ProcessOwner | None, pid_record: Path
    ) -> None:
        super().__init__()
        self.program = program
        self.folder = folder
        self.log = log
        self.password = password
        self.owner = owner
        self.pid_record = pid_record

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self, port: int = 0) -> None:
        """Stop what a killed run left behind, and start on `port` or on a free port. Raises AppError `unavailable`."""
        stop_leftover(
            int(read_record(self.pid_record).get("pid", 0)), self.folder, *self.STOP_STEPS, (signal.SIGKILL, 5.0)
        )
        for attempt in range(5):
            self.port = free_port(port if attempt == 0 else 0)
            self.process = spawn(
                [self.program, "-"],
                folder=self.folder,
                environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                log=self.log,
                owner=self.owner,
                stdin=self._configuration().encode(),
            )
            write_record(self.pid_record, {"pid": self.process.pid})
            if self._wait():
                return
            self.stop()
        raise AppError("unavailable", f"Redis did not start. Last lines of {self.log}:\n{log_tail(self.log)}")

    def _configuration(self) -> str:
        # Sent on standard input: every user of the machine can read the argument list of a process.
        return (
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\nprotected-mode yes\n"
            'save ""\nappendonly no\nmaxmemory-policy noeviction\ntimeout 0\ntcp-keepalive 60\ndaemonize no\n'
        )

    def _wait(self) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        with Redis.from_url(self.url, socket_connect_timeout=1, socket_timeout=1, retry=None) as client:
            while self.running() and time.monotonic() < deadline:
                try:
                    client.ping()
                except RedisError:
                    time.sleep(0.02)
                    continue
                return True
        return False
