"""Child processes that end with this one: started in their own folder, stopped in order, identified after a crash."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True)
class ProcessOwner:
    """The operating-system user that a child process runs as, if not the current one."""

    uid: int
    gid: int


def spawn(
    argv: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str],
    log: Path | None = None,
    owner: ProcessOwner | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    stdin: bytes | None = None,
    piped: bool = False,
) -> subprocess.Popen[bytes]:
    """Start `argv` with `folder` as its working directory, output appended to `log`, and return the process.

    With `piped`, its standard output is a pipe and its standard error is inherited.

    The child leads its own session, so that Ctrl-C in the terminal reaches only this process, which stops the child in
    order. On Linux the kernel sends it `death_signal` when the thread that started it ends, so start children from the
    main thread; elsewhere `is_ours` identifies what a killed parent left behind. `stdin` is written and closed:
    passwords go there and not into the argument list, which every user of the machine can read.
    """
    output: IO[bytes] | int = log.open("ab") if log else subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            [str(part) for part in argv],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else output,
            stderr=None if piped else subprocess.STDOUT,
            start_new_session=True,
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=[] if owner else None,
            preexec_fn=_die_with_parent(death_signal),
        )
    finally:
        if not isinstance(output, int):
            output.close()
    if process.stdin and stdin is not None:
        process.stdin.write(stdin)
        process.stdin.close()
    return process


def spawn_inheriting(
    argv: Sequence[str], *, environment: Mapping[str, str], files: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start `argv` with this process's folder, output and open `files`, and return the process.

    It ends as a child of `spawn` does: by SIGTERM with the thread that started it, and never by Ctrl-C.
    """
    return subprocess.Popen(
        list(argv),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        pass_fds=tuple(files),
        start_new_session=True,
        preexec_fn=_die_with_parent(signal.SIGTERM),
    )


class ServerProcess:
    """A server that runs as a child process of this one."""

    # The signals to stop it, each with the seconds to wait for it.
    STOP_STEPS: ClassVar[tuple[tuple[signal.Signals, float], ...]] = ((signal.SIGTERM, 5.0),)

    def __init__(self) -> None:
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Stop the server; its clients are disconnected."""
        if self.process:
            stop_process(self.process, *self.STOP_STEPS)
            self.process = None

    def kill(self) -> None:
        """Kill the server as a power failure would. For tests of recovery."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def running(self) -> bool:
        """Return whether the server runs."""
        return self.process is not None and self.process.poll() is None


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if _LIBC is None:
        return None
    libc, parent = _LIBC, os.getpid()

    def set_death_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        # The parent may have died before this call.
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal


def stop_process(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> None:
    """Send each step's signal and wait for its seconds until the process has ended; finally send SIGKILL."""
    for number, seconds in steps:
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        process.kill()
        process.wait()


def is_ours(pid: int, folder: Path) -> bool:
    """Return whether process `pid` is alive and works in `folder`, which only our own children do.

    A process id alone proves nothing: after a crash it may belong to an unrelated process.
    """
    if pid <= 1:
        return False
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == folder.resolve()
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        if Path("/proc/self").exists():
            return False
    listing = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return str(folder) in listing.stdout


def stop_leftover(pid: int, folder: Path, *steps: tuple[signal.Signals, float]) -> bool:
    """Stop a child that a killed run left behind in `folder`; return whether there was one."""
    existed = False
    for number, seconds in steps:
        if not is_ours(pid, folder):
            return existed
        existed = True
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return existed
        deadline = time.monotonic() + seconds
        while is_ours(pid, folder) and time.monotonic() < deadline:
            time.sleep(0.05)
    return existed
