"""The API as a server that ends in time: open streams end at once, other requests are answered within some seconds."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from app.api.route_index import build_routes
from app.cli.asgi import create_site
from app.cli.connection_deadlines import HEAD_SECONDS, DeadlineProtocol
from app.jobs.live_feed import LiveFeed
from app.settings import get_settings
from app.web.sentences import read_catalogues

log = logging.getLogger(__name__)

# A request that is still being answered (a download to a slow client) is cut off after so long.
GRACE_SECONDS = 5
# So long may the application itself take to end after that.
CLOSE_SECONDS = 5
CLOSE_AGAIN_SECONDS = 0.1
# How long a thread computes before it lets another one go on. An answer passes the event loop and its thread some
# twenty times, and may each time wait that long for each order that is priced: with Python's 5 ms half a second in all.
SWITCH_SECONDS = 0.001


# A process that another one has replaced answers what still comes over its connections for so long. Idle ones end
# before, as they always do (HEAD_SECONDS).
DRAIN_SECONDS = 30.0


class ApiServer(uvicorn.Server):
    """Uvicorn, which by itself waits out its whole grace for each open stream, and for ever for the application."""

    def __init__(self, site: FastAPI, config: uvicorn.Config, *, on_alive: Callable[[], None] | None = None) -> None:
        """`on_alive` is called about ten times a second in the event loop, from when requests are answered."""
        super().__init__(config)
        self._site, self._on_alive = site, on_alive
        self._drained_by: float | None = None
        self._was_empty = False

    def drain(self) -> None:
        """Accept no more connections, and end once those that are open have: each is closed after its next answer.

        A client never meets a connection that is closed as it sends its next request. In the server's event loop.
        """
        if self._drained_by is not None:
            return
        self._drained_by = time.monotonic() + DRAIN_SECONDS
        for server in getattr(self, "servers", ()):
            server.close()
        self.config.encoded_headers.append((b"connection", b"close"))
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        for connection in list(self.server_state.connections):
            assert isinstance(connection, DeadlineProtocol), "the protocol of make_server"
            if connection.cycle is not None and not connection.cycle.response_complete:
                connection.cycle.keep_alive = False
        self._end_streams()

    async def on_tick(self, counter: int) -> bool:
        """Say that the event loop runs, and end when a drain is over."""
        if self._on_alive is not None:
            self._on_alive()
        if self._drained_by is not None:
            is_over = time.monotonic() > self._drained_by
            # A connection that was accepted in the very moment is seen one tick later.
            is_empty = not self.server_state.connections
            self.should_exit = self.should_exit or is_over or (is_empty and self._was_empty)
            self._was_empty = is_empty
        return await super().on_tick(counter)

    def _end_streams(self) -> None:
        feed: LiveFeed | None = getattr(self._site.state, "live_feed", None)
        if feed is not None:
            feed.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all streams, let other requests be answered, end the application; each in its time."""
        self._end_streams()
        closer = asyncio.create_task(self._close_late_connections())
        try:
            async with asyncio.timeout(GRACE_SECONDS + CLOSE_SECONDS):
                await super().shutdown(sockets)
        except TimeoutError:
            log.error("The application did not end within %s s; the process ends without it.", CLOSE_SECONDS)
        finally:
            closer.cancel()

    async def _close_late_connections(self) -> None:
        """Close again and again what is open: idle connections now, others after their answer.

        Uvicorn does so once. A connection that was accepted in that very moment is missed, and a client that goes on
        asking over it would be answered until the grace is over.
        """
        while True:
            await asyncio.sleep(CLOSE_AGAIN_SECONDS)
            for connection in list(self.server_state.connections):
                if not connection.transport.is_closing():
                    connection.shutdown()


def make_server(site: FastAPI, *, port: int | None = None, on_alive: Callable[[], None] | None = None) -> ApiServer:
    """Return the server of a site, on the configured port or on `port` (0: any that is free); see ApiServer."""
    settings = get_settings()
    config = uvicorn.Config(
        site,
        host=settings.host,
        port=settings.port if port is None else port,
        # Whoever else sends X-Forwarded-For would choose the address that its tries are counted for.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        loop="uvloop",
        http=DeadlineProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        # Longer than the five seconds after which common clients close an idle connection themselves: a request that
        # is sent while the server closes its connection fails.
        timeout_keep_alive=int(HEAD_SECONDS),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return ApiServer(site, config, on_alive=on_alive)


def serve_site(*, listener: int | None = None, alive: int | None = None) -> None:
    """Serve the whole site until a signal asks to stop. Exits with uvicorn's code 3 when it cannot start.

    Several processes share a `listener`, a file descriptor of a socket that listens; each writes to the file descriptor
    `alive` while its event loop runs, and drains on SIGHUP.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    site = create_site()
    # What the first requests would otherwise wait for, with the event loop standing still.
    build_routes(site)
    read_catalogues()
    server = make_server(site, on_alive=None if alive is None else lambda: _write_alive(alive))
    # What exists by now stays for as long as the process. Without this each full collection looks at all of it again,
    # and nothing else runs for a tenth of a second.
    gc.collect()
    gc.freeze()
    try:
        if listener is None:
            server.run()
        else:
            with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
                runner.run(_serve_shared(server, listener))
    except KeyboardInterrupt:
        return
    if not server.started:
        sys.exit(STARTUP_FAILURE)


async def _serve_shared(server: ApiServer, listener: int) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.drain)
    await server.serve(sockets=[socket.socket(fileno=listener)])


def _write_alive(alive: int) -> None:
    # A full pipe means that the parent reads late; a closed one, that it has ended, and its death signal is on its way.
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(alive, b".")
