"""A small fake of a cluster's API, over TLS: it has pods, checks tokens and uids, and remembers what it was asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from app.dispatch.pod_costs import COST, ClusterApi
from tests.app.net.certificates import Authority

NAMESPACE = "video"
PATH = f"/api/v1/namespaces/{NAMESPACE}/pods/"


@dataclass
class Cluster:
    """The pods of a namespace by name, as uid and annotations. `api` is how a scheduler's pod sees it."""

    folder: Path
    pods: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    token: str = "first"
    calls: list[str] = field(default_factory=list)  # the names of pods that were to be changed
    status: int = 0  # answered in place of a change
    hang: threading.Event = field(default_factory=threading.Event)  # cleared: nobody is answered
    asked: threading.Event = field(default_factory=threading.Event)
    api: ClusterApi = field(init=False)

    def __post_init__(self) -> None:
        self.hang.set()

    def add(self, name: str, uid: str) -> None:
        self.pods[name] = (uid, {})

    def cost(self, name: str) -> str | None:
        return self.pods[name][1].get(COST)

    def renew_token(self, token: str) -> None:
        self.token = token
        (self.folder / "token").write_text(f"{token}\n", encoding="ascii")

    def patch(self, handler: BaseHTTPRequestHandler, change: dict[str, Any]) -> int:
        """Do what Kubernetes does with a merge patch of a pod's metadata; return the status."""
        if handler.headers["Authorization"] != f"Bearer {self.token}":
            return 401
        if handler.headers["Content-Type"] != "application/merge-patch+json" or not handler.path.startswith(PATH):
            return 400
        name = handler.path.removeprefix(PATH)
        self.calls.append(name)
        if self.status:
            return self.status
        if name not in self.pods:
            return 404
        uid, annotations = self.pods[name]
        if change["metadata"].pop("uid") != uid:
            return 409
        assert change["metadata"].keys() == {"annotations"}
        annotations.update(change["metadata"]["annotations"])
        return 200


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Run the fake; what a service account mounts is in `folder`."""
    state = Cluster(folder)
    authority = Authority(folder)
    authority.ca_file.rename(folder / "ca.crt")
    (folder / "namespace").write_text(NAMESPACE, encoding="ascii")
    state.renew_token("first")

    class Handler(BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            change = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.asked.set()
            state.hang.wait()
            self.send_response(state.patch(self, change))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = authority.context_for("localhost").wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.api = ClusterApi(f"https://localhost:{server.server_port}", folder)
    try:
        yield state
    finally:
        state.hang.set()
        server.shutdown()
        server.server_close()
