"""Processes of the API: those that die or hang are replaced, all of them on SIGHUP, and no request is refused."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from app.cli.api_processes import open_listener
from app.cli.client import answers
from app.cli.ports import free_port
from app.settings import child_environment
from tests.api_client import World

PATIENCE_SECONDS = 60.0
# Answers each connection with its process id. It stops saying that it lives when it is asked to hang.
ANSWERER = """
import os, select, signal, socket, sys
listener, alive = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
drained = []
signal.signal(signal.SIGHUP, lambda *_: drained.append(True))
hung = False
while not drained:
    if not hung:
        os.write(alive, b".")
    if select.select([listener], [], [], 0.05)[0]:
        try:
            connection = listener.accept()[0]
        except BlockingIOError:
            continue
        hung = hung or connection.recv(4) == b"hang"
        connection.sendall(str(os.getpid()).encode())
        connection.close()
"""
PARENT = """
import os, sys
from app.cli.api_processes import ApiProcesses, open_listener
listener = open_listener("127.0.0.1", 0)
listener.setblocking(False)
print(listener.getsockname()[1], flush=True)
command = [sys.executable, "-c", sys.argv[1]]
ApiProcesses(command, 2, listener, dict(os.environ), hung_seconds=3.0).run()
"""


def ask(port: int, question: bytes = b"pid?") -> int:
    """Return the process that answers."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)) as connection:
        connection.sendall(question)
        return int(connection.recv(32))


def wait_until(condition: object, what: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, what
        threading.Event().wait(0.05)


@contextmanager
def parent() -> Iterator[tuple[psutil.Process, int]]:
    process = subprocess.Popen([sys.executable, "-c", PARENT, ANSWERER], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield psutil.Process(process.pid), int(process.stdout.readline())
    finally:
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
        process.stdout.close()


def children(process: psutil.Process) -> set[int]:
    return {child.pid for child in process.children()}


def test_processes_that_die_or_hang_are_replaced_and_all_are_on_demand() -> None:
    with parent() as (process, port):
        wait_until(lambda: len(children(process)) == 2, "two processes start")
        ask(port)
        first = children(process)
        dead = min(first)
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: dead not in children(process) and len(children(process)) == 2, "a dead one is replaced")
        hung = ask(port, b"hang")
        wait_until(lambda: hung not in children(process) and len(children(process)) == 2, "a hung one is replaced")
        before = children(process)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: not before & children(process), "all are replaced")
        wait_until(lambda: len(children(process)) == 2, "one new one for each old one")
        ask(port)
        running = children(process)
    assert not any(psutil.pid_exists(pid) for pid in running), "they end with their parent"


def test_processes_that_cannot_start_end_their_parent() -> None:
    command = [sys.executable, "-c", PARENT, "raise SystemExit(1)"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "DidNotStart" in process.stderr


class Client(threading.Thread):
    """A client that polls without a pause over connections that it keeps; each answer's status is kept."""

    def __init__(self, base_url: str, key: str, path: str, *, keeps: bool) -> None:
        super().__init__()
        self.statuses: list[int] = []
        self.errors: list[str] = []
        self._ended = threading.Event()
        self._path, self._options = path, {"base_url": base_url, "headers": {"Authorization": f"Bearer {key}"}}
        self._limits = httpx.Limits(max_keepalive_connections=4 if keeps else 0)

    def run(self) -> None:
        with httpx.Client(**self._options, limits=self._limits, timeout=PATIENCE_SECONDS) as client:  # type: ignore[arg-type]
            while not self._ended.wait(0.01):
                try:
                    self.statuses.append(client.get(self._path).status_code)
                except httpx.HTTPError as error:
                    self.errors.append(repr(error))

    def end(self) -> None:
        self._ended.set()
        self.join()


def test_no_request_is_refused_while_the_processes_are_replaced(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_listener("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    metrics = free_port()
    environment = child_environment(port=port, api_processes=2, metrics_port=metrics, home=tmp_path)
    api = subprocess.Popen([sys.executable, "-P", "-m", "app.cli.serve", "api"], env=environment)
    process, base_url = psutil.Process(api.pid), f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{base_url}/readyz"), "the API starts")
        wait_until(lambda: len(children(process)) == 2, "two processes")
        clients = [Client(base_url, world.alice, "/healthz", keeps=keeps) for keeps in (True, False)]
        for client in clients:
            client.start()
        before = children(process)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: not before & children(process) and len(children(process)) == 2, "both are replaced")
        for client in clients:
            client.end()
        counted = sum(
            float(line.split()[-1])
            for line in httpx.get(f"http://127.0.0.1:{metrics}/metrics").text.splitlines()
            if line.startswith('cinemeter_requests_total{method="GET",route="/healthz",status="200"')
        )
    finally:
        api.terminate()
        assert api.wait(PATIENCE_SECONDS) == 0
    assert not [error for client in clients for error in client.errors]
    statuses = [status for client in clients for status in client.statuses]
    assert set(statuses) == {200}
    assert counted == len(statuses), "the requests of processes that have ended are counted too"
