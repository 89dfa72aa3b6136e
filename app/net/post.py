"""Send one body to one receiver: one total timeout, no redirects, a bounded read, a result instead of an exception."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Literal, Self

import aiohttp

from app.errors import AppError
from app.net.addresses import url_refusal
from app.net.guard import Blocked, Connector, Egress, Exchange, Lookup, Timings, current_exchange, system_lookup

READ_BYTES_MAX = 16_384
# One header line; aiohttp allows 128 of them.
_HEADER_BYTES_MAX = 8_190
_RECORDED_HEADERS = ("content-encoding", "content-type", "location", "retry-after")

Fault = Literal[
    "blocked",
    "dns_failed",
    "proxy_failed",
    "connect_failed",
    "tls_failed",
    "timeout",
    "disconnected",
    "bad_answer",
    "internal",
]


@dataclass(frozen=True)
class PostResult:
    """The result of one posted request. Either `status` is set, or `fault` is why there is none."""

    status: int | None
    headers: Mapping[str, str]  # lower-case names, only those that we read
    body: bytes  # at most READ_BYTES_MAX bytes, not decompressed
    fault: Fault | None
    detail: str  # for our log only
    ip: str | None  # the address of the connection; None behind a proxy, which alone knows it
    timings: Timings


def check_url(url: str, *, field: str = "url", http: bool = False) -> None:
    """Check the form of a URL; `http` permits plain HTTP (media). Raises AppError `url_refused`.

    A valid name may still resolve to an address that is refused at the connection.
    """
    reason = url_refusal(url, http=http, strict=Egress.configured().strict_urls)
    if reason:
        raise AppError("url_refused", f"This URL cannot be used: {reason}.", field=field, url=url[:200])


class Sender:
    """Posts over persistent connections. Open it inside a running event loop: `async with Sender(...) as sender`."""

    def __init__(self, egress: Egress | None = None, *, seconds: float, lookup: Lookup = system_lookup) -> None:
        self._egress = egress or Egress.configured()
        self._seconds = seconds
        self._lookup = lookup

    async def __aenter__(self) -> Self:
        self._http = open_session(self._egress, self._lookup)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> PostResult:
        """Post `body` and return the result; it never raises, except when the task is cancelled.

        A persistent connection that the receiver closed meanwhile is replaced once within the same timeout.
        """
        return await self._send("POST", url, body, headers)

    async def patch(self, url: str, body: bytes, headers: Mapping[str, str]) -> PostResult:
        """Send `body` by PATCH, in all else as `post`."""
        return await self._send("PATCH", url, body, headers)

    async def _send(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> PostResult:
        reason = url_refusal(url, strict=self._egress.strict_urls)
        if reason:
            return PostResult(None, {}, b"", "blocked", reason, None, Exchange().timings())
        deadline = asyncio.get_running_loop().time() + self._seconds
        answer, reused = await self._send_once(method, url, body, headers, deadline)
        if reused and answer.fault == "disconnected":
            answer, _ = await self._send_once(method, url, body, headers, deadline)
        return answer

    async def _send_once(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> tuple[PostResult, bool]:
        exchange = Exchange()
        current_exchange.set(exchange)
        response: aiohttp.ClientResponse | None = None
        received = bytearray()
        fault: Fault | None = None
        detail = ""
        try:
            async with (
                asyncio.timeout_at(deadline),
                self._http.request(
                    method, url, data=body, headers=headers, allow_redirects=False, proxy=self._egress.proxy or None
                ) as response,
            ):
                exchange.answered = monotonic()
                await _read_start(response, received)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            # After the status line the result is known; a failure in the body changes nothing.
            if response is None:
                fault, detail = _fault(error), f"{type(error).__name__}: {error}"[:500]
        reused = exchange.connected is not None and exchange.connect_started is None
        status = response.status if response is not None else None
        seen = (
            {name: response.headers[name] for name in _RECORDED_HEADERS if name in response.headers} if response else {}
        )
        return PostResult(status, seen, bytes(received), fault, detail, exchange.ip, exchange.timings()), reused


def open_session(egress: Egress, lookup: Lookup) -> aiohttp.ClientSession:
    """Open a client session behind the guard; the caller sets one timeout for the whole exchange."""
    return aiohttp.ClientSession(
        connector=Connector(egress, lookup),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        headers={"User-Agent": "Cinemeter/1.0", "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
        max_line_size=_HEADER_BYTES_MAX,
        max_field_size=_HEADER_BYTES_MAX,
        read_bufsize=READ_BYTES_MAX // 2,
    )


async def _read_start(response: aiohttp.ClientResponse, received: bytearray) -> None:
    """Read at most READ_BYTES_MAX bytes into `received`; close the connection of a longer answer."""
    async for chunk in response.content.iter_any():
        received += chunk[: READ_BYTES_MAX - len(received)]
        if len(received) >= READ_BYTES_MAX:
            response.close()
            return


def _fault(error: BaseException) -> Fault:
    """Return the fault of an exchange without a status; the order matters, as aiohttp's classes overlap."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Blocked):
            return "blocked"
        cause = cause.__cause__
    table: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Fault], ...] = (
        (TimeoutError, "timeout"),
        (aiohttp.InvalidURL, "blocked"),
        (aiohttp.ClientProxyConnectionError, "proxy_failed"),
        (aiohttp.ClientConnectorDNSError, "dns_failed"),
        ((aiohttp.ClientSSLError, ssl.SSLError), "tls_failed"),
        ((aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError), "connect_failed"),
        ((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, OSError), "disconnected"),
    )
    return next((fault for kinds, fault in table if isinstance(error, kinds)), "bad_answer")
