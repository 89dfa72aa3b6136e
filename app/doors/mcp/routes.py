"""Streamable HTTP for the MCP door: every request is admitted by its API key before a word of MCP is read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server.transport_security import TransportSecuritySettings
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.db import transaction
from app.doors.access import admit
from app.doors.mcp.tools import make_server
from app.doors.problems import problem
from app.errors import AppError
from app.roles import Scope as KeyScope

PATH = "/mcp"


class Admitted:
    """ASGI middleware that lets only callers with the scope `videos` through."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            await run_in_threadpool(_admit, request)
        except AppError as error:
            await problem(error, request)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _admit(request: Request) -> None:
    with transaction() as session:
        admit(request, session, KeyScope.VIDEOS)


class McpDoor:
    """The door's ASGI application, and the task group that it needs while the API lives.

    It keeps no sessions, so any API process answers any request. DNS rebinding is no way in, because every request
    must carry a key that no browser adds by itself.
    """

    def __init__(self) -> None:
        self.app = Admitted(self._answer)
        self._current: ASGIApp | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer requests within the block. It may be entered again, unlike the MCP server that it makes each time."""
        server = make_server()
        self._current = server.streamable_http_app(
            streamable_http_path=PATH,
            json_response=True,
            stateless_http=True,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        try:
            async with server.session_manager.run():
                yield
        finally:
            self._current = None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._current is None:
            raise RuntimeError("MCP is answered only while the application runs.")
        await self._current(scope, receive, send)
