"""The process tree of `cinemeter up`: the roles as children, started again when they fall, ended in order."""

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
from app.cli.postgres import tail
from app.cli.subprocesses import end, end_leftover, spawn
from app.errors import AppError

# A role that falls again and again is given longer and longer pauses; one that stood a minute starts afresh.
_PAUSE_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STEADY_SECONDS = 60.0
_TICK_SECONDS = 0.2
_LOG_BYTES_MAX = 16 * 1024 * 1024
_NOTE = ".roles.json"


@dataclass
class ProcessRole:
    """One process of the service and how it likes to be ended."""

    name: str
    argv: list[str]
    environment: Mapping[str, str]
    # Seconds that it may take to end what it has in hand.
    patience_seconds: float = 10.0
    # What the kernel sends it if the tree is killed outright: a worker then has no database to say goodbye to.
    death_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    falls: int = field(default=0, init=False)
    started: float = field(default=0.0, init=False)
    start_after: float = field(default=0.0, init=False)


class Supervisor:
    """The roles of one home, in the order in which they start; they end in the reverse order."""

    def __init__(self, roles: Iterable[ProcessRole], home: Path, say: Callable[[str], None]) -> None:
        """`say` is told, in a sentence, of each role that falls and rises."""
        self.roles = list(roles)
        self.home = home
        self.say = say
        self.stopping = threading.Event()

    def start(self) -> None:
        """End what a killed run left behind, then start every role. Call it on the main thread (see `spawn`)."""
        for pid in read_record(self.home / _NOTE).get("pids", []):
            end_leftover(int(pid), self.home, (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
        for role in self.roles:
            self._start(role)

    def remember(self, pids: Iterable[int]) -> None:
        """Note which processes are ours, for the next start after a crash."""
        write_record(self.home / _NOTE, {"pids": list(pids)})

    def tend(self) -> None:
        """Start again each role that has ended and whose pause is over."""
        now = time.monotonic()
        for role in self.roles:
            if role.process and role.process.poll() is not None:
                self._note_fall(role, now)
            if role.process is None and now >= role.start_after:
                self._start(role)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready()`, tending the roles meanwhile; raise `unavailable` with the log of what fell."""
        deadline = time.monotonic() + seconds
        while not self.stopping.is_set() and not ready():
            self.tend()
            fallen = [role for role in self.roles if role.falls >= 3]
            if fallen or time.monotonic() > deadline:
                role = fallen[0] if fallen else self.roles[0]
                raise AppError(
                    "unavailable", f"{role.name} does not come up. The end of {self.log(role)}:\n{tail(self.log(role))}"
                )
            self.stopping.wait(_TICK_SECONDS)

    def run(self, also: Callable[[], None]) -> None:
        """Tend the roles, and call `also` each time round, until somebody asks to stop."""
        while not self.stopping.wait(_TICK_SECONDS):
            self.tend()
            also()

    def stop(self) -> None:
        """End every role, the last started first; each may finish what it has in hand."""
        running = [role for role in reversed(self.roles) if role.process]
        for role in running:
            if role.process and role.process.poll() is None:
                role.process.send_signal(signal.SIGTERM)
        signalled_at = time.monotonic()
        for role in running:
            if role.process:
                # Asked once: a second request tells some programs to drop what they have in hand.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    role.process.wait(max(0.1, signalled_at + role.patience_seconds - time.monotonic()))
                end(role.process)
                role.process = None
        self.remember(())

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
        self.remember(each.process.pid for each in self.roles if each.process)

    def _note_fall(self, role: ProcessRole, now: float) -> None:
        assert role.process is not None
        role.falls = 1 if now - role.started > _STEADY_SECONDS else role.falls + 1
        pause = _PAUSE_SECONDS[min(role.falls, len(_PAUSE_SECONDS)) - 1]
        role.start_after = now + pause
        self.say(
            f"{role.name} ended with {role.process.returncode}; it starts again in {pause:g} s ({self.log(role)})."
        )
        role.process = None


class stop_signals:
    """While the block runs, Ctrl-C, SIGTERM and a closed terminal set `stopping` instead of breaking in anywhere."""

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
