"""The process tree of `cinemeter up`: roles as child processes, restarted when they exit, stopped in order."""

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from app.cli.home import read_record, write_record
from app.cli.postgres import log_tail
from app.cli.subprocesses import spawn, stop_leftover, stop_process
from app.errors import AppError

# Delays before a restart: longer after each failure in a row; one minute of running resets the count.
_RESTART_DELAYS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STABLE_SECONDS = 60.0
_TICK_SECONDS = 0.2
_LOG_BYTES_MAX = 16 * 1024 * 1024
_PID_RECORD = ".roles.json"


@dataclass
class ProcessRole:
    """One process of the service, and how to stop it."""

    name: str
    argv: list[str]
    environment: Mapping[str, str]
    # Time that it gets to finish its current work.
    stop_seconds: float = 10.0
    # What the kernel sends it when the supervisor is killed: a worker then has no database to sign off from.
    death_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    failures: int = field(default=0, init=False)
    started: float = field(default=0.0, init=False)
    start_after: float = field(default=0.0, init=False)


class Supervisor:
    """The roles of one home, in the order in which they start; they stop in reverse order."""

    def __init__(self, roles: Iterable[ProcessRole], home: Path, say: Callable[[str], None]) -> None:
        """`say` is called with a sentence for each role that exits."""
        self.roles = list(roles)
        self.home = home
        self.say = say
        self.stopping = threading.Event()

    def start(self) -> None:
        """Stop what a killed run left behind, then start every role. Call it on the main thread (see `spawn`)."""
        for pid in read_record(self.home / _PID_RECORD).get("pids", []):
            stop_leftover(int(pid), self.home, (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
        for role in self.roles:
            self._start(role)

    def record_pids(self, pids: Iterable[int]) -> None:
        """Record the ids of our processes, for the next start after a crash."""
        write_record(self.home / _PID_RECORD, {"pids": list(pids)})

    def restart_stopped(self) -> None:
        """Restart each role that has exited and whose delay is over."""
        now = time.monotonic()
        for role in self.roles:
            if role.process and role.process.poll() is not None:
                self._record_exit(role, now)
            if role.process is None and now >= role.start_after:
                self._start(role)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready()`, restarting roles meanwhile.

        Raises AppError `unavailable` with the last log lines of a role that keeps exiting, or after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not self.stopping.is_set() and not ready():
            self.restart_stopped()
            failed = [role for role in self.roles if role.failures >= 3]
            if failed or time.monotonic() > deadline:
                role = failed[0] if failed else self.roles[0]
                raise AppError(
                    "unavailable",
                    f"{role.name} did not start. Last lines of {self.log(role)}:\n{log_tail(self.log(role))}",
                )
            self.stopping.wait(_TICK_SECONDS)

    def run(self, on_tick: Callable[[], None]) -> None:
        """Restart roles and call `on_tick`, again and again, until `stopping` is set."""
        while not self.stopping.wait(_TICK_SECONDS):
            self.restart_stopped()
            on_tick()

    def stop(self) -> None:
        """Stop every role, the last started first; each may finish its current work."""
        running = [role for role in reversed(self.roles) if role.process]
        for role in running:
            if role.process and role.process.poll() is None:
                role.process.send_signal(signal.SIGTERM)
        signalled_at = time.monotonic()
        for role in running:
            if role.process:
                # One signal only: a second one makes some programs drop their current work.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    role.process.wait(max(0.1, signalled_at + role.stop_seconds - time.monotonic()))
                stop_process(role.process)
                role.process = None
        self.record_pids(())

    def log(self, role: ProcessRole) -> Path:
        return self.home / "logs" / f"{role.name}.log"

    def _start(self, role: ProcessRole) -> None:
        log = self.log(role)
        log.parent.mkdir(mode=0o700, exist_ok=True)
        if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        role.process = spawn(
            role.argv, folder=self.home, environment=role.environment, log=log, death_signal=role.death_signal
        )
        role.started = time.monotonic()
        self.record_pids(each.process.pid for each in self.roles if each.process)

    def _record_exit(self, role: ProcessRole, now: float) -> None:
        assert role.process is not None
        role.failures = 1 if now - role.started > _STABLE_SECONDS else role.failures + 1
        delay = _RESTART_DELAYS[min(role.failures, len(_RESTART_DELAYS)) - 1]
        role.start_after = now + delay
        self.say(f"{role.name} exited with {role.process.returncode}; it restarts in {delay:g} s ({self.log(role)}).")
        role.process = None


class stop_signals:
    """During the block, Ctrl-C, SIGTERM and a closed terminal set `stopping` instead of interrupting the code."""

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, stopping: threading.Event) -> None:
        self.stopping = stopping
        self.before: list[object] = []

    def __enter__(self) -> None:
        self.before = [signal.signal(number, self._stop) for number in self.NUMBERS]

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(self.NUMBERS, self.before, strict=True):
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping.set()
