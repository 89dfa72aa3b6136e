"""An egress proxy on loopback: it notes which tunnels are asked for, and leads all to one address or refuses them."""

import contextlib
import socket
import threading
from typing import Self


class Tunnel:
    """Run it with `with Tunnel(port) as tunnel:`; with `status` other than 200 every tunnel is refused."""

    def __init__(self, port: int = 0, *, status: int = 200) -> None:
        self._target = ("127.0.0.1", port)
        self._status = status
        self.asked: list[str] = []
        self._carrying: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        for thread in self._carrying:
            thread.join(10)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._carrying.append(threading.Thread(target=self._carry, args=(client,), daemon=True))
                self._carrying[-1].start()

    def _carry(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            self.asked.append(head.decode().partition("\r\n")[0])
            client.sendall(f"HTTP/1.1 {self._status} Word\r\n\r\n".encode())
            if self._status == 200:
                with socket.create_connection(self._target) as server:
                    back = threading.Thread(target=_pour, args=(server, client), daemon=True)
                    back.start()
                    _pour(client, server)


def _pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
