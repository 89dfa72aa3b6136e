"""A wire between a process and a server, that can be cut, stopped or slowed while it is in use."""

import contextlib
import socket
import threading
import time

from tests.contracts.storage_servers import reset


class Wire:
    """A TCP proxy to `port`. Faults hit the connections that are open and, where said, those that come."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.own_port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._refuses = False
        self._pause_seconds = 0.0
        threading.Thread(target=self._accept, name=f"wire-{port}", daemon=True).start()

    def vanish(self, ports: set[int] | None = None) -> int:
        """Pass nothing more on the connections that are open, and close none: each end waits for the other for ever.

        That is what a lost route or a dropped firewall entry looks like; new connections are good. `ports` are those
        of the clients that are cut off; None is all. Returns how many.
        """
        with self._lock:
            held = [pair for pair in self._pairs if ports is None or pair.client_port in ports]
            for pair in held:
                pair.vanished.set()
        return len(held)

    def refuse(self) -> None:
        """Reset the connections that are open and those that come, until `heal`."""
        self._refuses = True
        with self._lock:
            held = list(self._pairs)
        for pair in held:
            pair.close()

    def slow(self, seconds: float) -> None:
        """Wait so long before each chunk is passed on, until `heal`."""
        self._pause_seconds = seconds

    def heal(self) -> None:
        self._refuses, self._pause_seconds = False, 0.0

    def close(self) -> None:
        self._listener.close()
        self.refuse()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._refuses:
                    reset(client)
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self.port), timeout=5)
                except OSError:
                    reset(client)
                    continue
                server.settimeout(None)
                pair = _Pair(client, server)
                with self._lock:
                    self._pairs.add(pair)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(pair, source, target), daemon=True).start()

    def _pass(self, pair: "_Pair", source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if pair.vanished.is_set():
                    # Read and thrown away, so that the sender is never told that anything is wrong.
                    continue
                if self._pause_seconds:
                    time.sleep(self._pause_seconds)
                target.sendall(data)
        # The end of one side is not told to the other where the wire has vanished.
        if not pair.vanished.is_set():
            pair.close()
            with self._lock:
                self._pairs.discard(pair)


class _Pair:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.client_port: int = client.getpeername()[1]
        self.vanished = threading.Event()

    def close(self) -> None:
        for line in (self.client, self.server):
            reset(line)
