"""Streamable HTTP for the MCP interface. Every request is authenticated by its API key before MCP reads it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server.transport_security import TransportSecuritySettings
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.access import authorize, require_key
from app.api.interface import ApiInterface
from app.api.mcp.tools import make_server
from app.api.problems import problem, problem_document
from app.db import transaction
from app.errors import AppError
from app.request_limits import RequestLimits, request_limits
from app.request_session import gate_place
from app.roles import Scope as KeyScope
from app.settings import get_settings

PATH = "/mcp"
# The MCP library parses a body on the event loop and copies it several times: one of 31 MiB kept all other requests
# waiting for 0.4 s. Larger pictures are uploaded, and named by their id.
BODY_BYTES_MAX = 8 * 2**20


def _body_bytes_max(_request: Request) -> int:
    return min(BODY_BYTES_MAX, get_settings().body_bytes_max)


@request_limits(RequestLimits(data_urls=True, bytes_max=_body_bytes_max))
class AuthorizedMcp:
    """ASGI middleware that passes on only requests of callers with the scope `videos`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            async with gate_place(request):
                await run_in_threadpool(_authorize, request)
        except AppError as error:
            await problem(error, request)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _authorize(request: Request) -> None:
    with transaction() as session:
        authorize(request, session, KeyScope.VIDEOS)


def make_interface() -> ApiInterface:
    """Return the MCP interface with a server of its own, which serves one application."""
    server = McpServer()
    # A plain route and not a mount, which would redirect /mcp to /mcp/. Only POST: the server keeps no sessions, so
    # a GET stream would never carry anything and would stay open for as long as the client likes.
    route = Route(PATH, server.app, methods=["POST"], include_in_schema=False)
    return ApiInterface(
        prefix=PATH,
        routers=(),
        error_response=problem_document,
        authorize=require_key,
        routes=(route,),
        lifespan=server.running,
    )


class McpServer:
    """The ASGI application of the MCP interface, and the task group that it needs while the API runs.

    It keeps no sessions, so any API process can answer any request. DNS rebinding is no risk, because every request
    must carry a key, which no browser adds by itself.
    """

    def __init__(self) -> None:
        self.app = AuthorizedMcp(self._answer)
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
                await _warm_up(self._current)
                yield
        finally:
            self._current = None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._current is None:
            raise RuntimeError("MCP is answered only while the application runs.")
        await self._current(scope, receive, send)


async def _warm_up(app: ASGIApp) -> None:
    """List the tools once, before the process serves.

    The MCP library builds its validators at the first message, on the event loop: half a second or more, in which the
    process would answer nobody.
    """
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
    headers = ((b"host", b"localhost"), (b"content-type", b"application/json"), (b"accept", b"application/json"))
    scope = {"type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": list(headers)}
    messages = iter([{"type": "http.request", "body": body}])

    async def receive() -> Message:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        if message.get("status", 200) != 200:
            raise RuntimeError(f"the MCP server answered {message['status']} at its start")

    await app(scope, receive, send)
