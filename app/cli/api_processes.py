"""The API as several processes that accept connections from one socket, replaced one by one without a refused request.

The parent serves nothing itself. It starts a process anew that has died or hangs, and on SIGHUP it replaces all of
them: each new one answers before an old one accepts no more.
"""

import logging
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

from app.cli.subprocesses import spawn_inheriting, stop_process

log = logging.getLogger(__name__)

BACKLOG = 2048
# A process that has not said for so long that its event loop runs is killed and replaced.
HUNG_SECONDS = 30.0
# From its start until it answers; imports on a busy machine take their time.
READY_SECONDS = 120.0
# A drained process ends by itself within app.cli.api_server's limits; after so long it is stopped.
DRAINED_SECONDS = 45.0
STOP_SECONDS = 12.0
# After a longer pause of the parent itself (a frozen machine or container) silence says nothing about the others.
PAUSE_SECONDS = 5.0
# Before a process is started again that ended without ever having answered: longer after each failure in a row.
RESTART_DELAYS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_TICK_SECONDS = 0.2


class DidNotStart(Exception):
    """The first processes ended before they answered a request."""


@dataclass(eq=False)
class ApiProcess:
    """One process, and when it said last that its event loop runs."""

    process: subprocess.Popen[bytes]
    alive: int  # the file descriptor that the process writes to
    started_at: float = field(default_factory=time.monotonic)
    heard_at: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it has begun to answer requests."""
        return self.heard_at is not None

    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        return self.process.poll() is not None

    def is_hung(self, now: float, *, hung_seconds: float) -> bool:
        """Return whether it has said nothing for too long: since it last did, or since its start."""
        if self.heard_at is None:
            return now - self.started_at > READY_SECONDS
        return now - self.heard_at > hung_seconds

    def listen(self) -> None:
        """Read what it has said."""
        with suppress(BlockingIOError):
            if os.read(self.alive, 65_536):
                self.heard_at = time.monotonic()

    def close(self) -> None:
        """Stop the process if it runs, and forget what it says."""
        stop_process(self.process)
        os.close(self.alive)


class ApiProcesses:
    """The processes of one API. `run` starts them and returns when they have ended."""

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        listener: socket.socket,
        environment: Mapping[str, str],
        *,
        hung_seconds: float = HUNG_SECONDS,
        on_end: Callable[[int], None] = lambda pid: None,
    ) -> None:
        """`command` is given the file descriptors of `listener` and of a pipe for its signs of life as arguments.

        `on_end` is called with the process id of each that has ended.
        """
        self._command, self._count, self._listener = list(command), count, listener
        self._environment, self._hung_seconds, self._on_end = environment, hung_seconds, on_end
        self._serving: list[ApiProcess] = []
        self._draining: list[tuple[ApiProcess, float]] = []
        self._outdated: list[ApiProcess] = []
        self._successor: ApiProcess | None = None
        self._failures, self._failed_at, self._start_after = 0, 0.0, 0.0
        self._listened_at = time.monotonic()
        self._is_stopping = self._must_replace = False

    def run(self) -> None:
        """Start the processes and keep them running until SIGTERM or SIGINT. Raises DidNotStart."""
        with self._signals():
            try:
                while not self._is_stopping:
                    self._start_missing()
                    self._listen()
                    self._remove_ended()
                    self._replace_outdated()
            finally:
                self._stop()

    def _start(self) -> ApiProcess:
        alive, write_end = os.pipe()
        os.set_blocking(alive, False)
        os.set_blocking(write_end, False)
        files = (self._listener.fileno(), write_end)
        try:
            process = spawn_inheriting([*self._command, *map(str, files)], environment=self._environment, files=files)
        finally:
            os.close(write_end)
        return ApiProcess(process, alive)

    def _start_missing(self) -> None:
        if time.monotonic() >= self._start_after:
            self._serving += [self._start() for _ in range(self._count - len(self._serving))]

    def _all(self) -> list[ApiProcess]:
        successor = [self._successor] if self._successor is not None else []
        return [*self._serving, *successor, *(process for process, _ in self._draining)]

    def _listen(self) -> None:
        readable, _, _ = select.select([each.alive for each in self._all()], [], [], _TICK_SECONDS)
        for each in self._all():
            if each.alive in readable:
                each.listen()
        self._forgive_silence(time.monotonic())
        if any(each.is_ready and each.started_at > self._failed_at for each in self._serving):
            self._failures = 0
        if readable:
            # A pipe whose writer has ended is readable at once, again and again.
            time.sleep(_TICK_SECONDS / 4)

    def _forgive_silence(self, now: float) -> None:
        """Begin to wait anew for what the others say, where this process itself stood still."""
        if now - self._listened_at > PAUSE_SECONDS:
            for each in self._all():
                each.started_at = now
                each.heard_at = now if each.is_ready else None
        self._listened_at = now

    def _remove_ended(self) -> None:
        now = time.monotonic()
        for each in self._all():
            if each.is_hung(now, hung_seconds=self._hung_seconds) and not each.has_ended():
                log.error("The API process %s does not answer and is killed.", each.process.pid)
                each.process.kill()
                each.process.wait()
            if each.has_ended():
                self._remove(each)
        for each, until in self._draining:
            if now > until:
                each.process.terminate()

    def _remove(self, each: ApiProcess) -> None:
        each.close()
        self._on_end(each.process.pid)
        was_draining = [pair for pair in self._draining if pair[0] is each]
        self._draining = [pair for pair in self._draining if pair[0] is not each]
        if was_draining:
            log.info("The API process %s was replaced and has ended.", each.process.pid)
            return
        log.error("The API process %s ended with %s.", each.process.pid, each.process.returncode)
        if each is self._successor:
            # What runs stays; another SIGHUP tries again.
            self._successor, self._outdated = None, []
            return
        self._serving.remove(each)
        if each in self._outdated:
            self._outdated.remove(each)
            if self._successor is not None:
                self._serving.append(self._successor)
                self._successor = None
        if not each.is_ready:
            self._failures += 1
            self._failed_at = time.monotonic()
            if self._failures >= max(3, self._count) and not any(other.is_ready for other in self._serving):
                raise DidNotStart
            delay = RESTART_DELAYS[min(self._failures, len(RESTART_DELAYS)) - 1]
            self._start_after = time.monotonic() + delay

    def _replace_outdated(self) -> None:
        """Take the next step of a replacement: start a successor, or drain an old process whose successor answers."""
        if self._must_replace:
            self._must_replace = False
            # A successor that is starting may be of the release before, too.
            self._outdated = [*self._serving, *([self._successor] if self._successor is not None else [])]
        if not self._outdated or self._draining:
            return
        if self._successor is None:
            self._successor = self._start()
        elif self._successor.is_ready:
            old = self._outdated.pop(0)
            self._serving[self._serving.index(old)] = self._successor
            self._successor = None
            self._draining.append((old, time.monotonic() + DRAINED_SECONDS))
            # One that does not answer yet would not drain.
            old.process.send_signal(signal.SIGHUP if old.is_ready else signal.SIGTERM)

    def _stop(self) -> None:
        # While this process held the socket open, the kernel would accept connections that nobody answers.
        self._listener.close()
        processes = self._all()
        for each in processes:
            if not each.has_ended():
                each.process.terminate()
        until = time.monotonic() + STOP_SECONDS
        for each in processes:
            with suppress(subprocess.TimeoutExpired):
                each.process.wait(max(0.1, until - time.monotonic()))
            each.close()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """During the block SIGTERM and SIGINT stop the processes, and SIGHUP replaces those that run by then."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._is_stopping = True

        def replace(number: int, frame: FrameType | None) -> None:
            self._must_replace = True

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: replace}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address, for processes that share it. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
