"""The metrics port of a process: `/metrics` for Prometheus and `/livez` for whoever restarts processes that hang."""

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from app.liveness import LIVENESS
from app.settings import get_settings

log = logging.getLogger(__name__)

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _SixServer(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: Prometheus asks every few seconds."""


def serve_registry(role: str, registry: CollectorRegistry) -> int | None:
    """Serve a registry on CINEMETER_METRICS_PORT from a thread of its own.

    Returns the port, or None when none is set. A port that is in use is a warning and no error: the process can work
    without metrics.
    """
    settings = get_settings()
    if not settings.metrics_port:
        return None
    kind = _SixServer if ":" in settings.host else _Server
    try:
        server = make_server(
            settings.host, settings.metrics_port, metrics_app(registry), server_class=kind, handler_class=_QuietHandler
        )
    except OSError as error:
        log.warning("The metrics of this %s are not served: port %s: %s", role, settings.metrics_port, error)
        return None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    port: int = server.server_port
    log.info("The metrics of this %s are at http://%s:%s/metrics", role, settings.host, port)
    return port


def metrics_app(registry: CollectorRegistry) -> Application:
    """Return the WSGI application of the metrics port.

    `/livez` answers 200 while the loop of this process goes on, otherwise 503; a process without such a loop (the API,
    whose own port has /healthz) lives as long as it answers. It asks neither the database nor Redis: a process is not
    restarted because they are away. A worker's loop here is its report to the registry; takes have their own watchdog.
    """
    metrics: Application = make_wsgi_app(registry)

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path in ("/", "/metrics"):
            return metrics(environ, start_response)
        status, text = ("404 Not Found", "Not found: /metrics and /livez are served here.\n")
        if path == "/livez":
            is_alive, seconds = LIVENESS.is_alive(), LIVENESS.seconds_since_step()
            status = "200 OK" if is_alive else "503 Service Unavailable"
            text = "ok\n" if seconds is None or is_alive else f"Nothing has been done for {seconds:.0f} s.\n"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))])
        return [text.encode()]

    return application
