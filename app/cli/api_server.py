"""The API as a server that ends in time: open streams end at once, other requests are answered within some seconds."""

import asyncio
import gc
import logging
import socket
import sys

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from app.cli.asgi import create_site
from app.cli.connection_deadlines import HEAD_SECONDS, DeadlineProtocol
from app.jobs.live_feed import LiveFeed
from app.settings import get_settings

log = logging.getLogger(__name__)

# A request that is still being answered (a download to a slow client) is cut off after so long.
GRACE_SECONDS = 5
# So long may the application itself take to end after that.
CLOSE_SECONDS = 5
CLOSE_AGAIN_SECONDS = 0.1
# How long a thread computes before it lets another one go on. An answer passes the event loop and its thread some
# twenty times, and may each time wait that long for each order that is priced: with Python's 5 ms half a second in all.
SWITCH_SECONDS = 0.001


class ApiServer(uvicorn.Server):
    """Uvicorn, which by itself waits out its whole grace for each open stream, and for ever for the application."""

    def __init__(self, site: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._site = site

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all streams, let other requests be answered, end the application; each in its time."""
        feed: LiveFeed | None = getattr(self._site.state, "live_feed", None)
        if feed is not None:
            feed.close()
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


def make_server(site: FastAPI, *, port: int | None = None) -> ApiServer:
    """Return the server of a site, on the configured port or on `port` (0: any that is free)."""
    settings = get_settings()
    config = uvicorn.Config(
        site,
        host=settings.host,
        port=settings.port if port is None else port,
        # Whoever else sends X-Forwarded-For would choose the address that its tries are counted for.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        http=DeadlineProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        # Longer than the five seconds after which common clients close an idle connection themselves: a request that
        # is sent while the server closes its connection fails.
        timeout_keep_alive=int(HEAD_SECONDS),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return ApiServer(site, config)


def serve_site() -> None:
    """Serve the whole site until a signal asks to stop. Exits with uvicorn's code 3 when it cannot start."""
    sys.setswitchinterval(SWITCH_SECONDS)
    server = make_server(create_site())
    # What exists by now stays for as long as the process. Without this each full collection looks at all of it again,
    # and nothing else runs for a tenth of a second.
    gc.collect()
    gc.freeze()
    try:
        server.run()
    except KeyboardInterrupt:
        return
    if not server.started:
        sys.exit(STARTUP_FAILURE)
