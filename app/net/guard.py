"""The guard at the socket: which addresses may be contacted, and the timings of each phase of an exchange.

A name is resolved once, every answer must be public, and only those answers are contacted. IP literals never reach a
resolver, so they are checked by the socket factory, the one place that sees the actual address. With an egress proxy
set, the proxy is the only address that we contact, and it must enforce the rules.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from app.net.addresses import Network, address_refusal, parse_networks
from app.settings import get_settings

DNS_SECONDS_MAX = 5.0
# Below the 5 s after which uvicorn and Node close an idle connection, so that we rarely post into a closing one.
KEEPALIVE_SECONDS = 4.0

AddressList = list[tuple[int, str]]
Lookup = Callable[[str, int], AddressList]


class Blocked(OSError):
    """The guard refused an address; the reason is for our log, never for the customer (port-scan oracle)."""


@dataclass(frozen=True)
class Egress:
    """The rules for outgoing connections: from the settings in service, explicit in tests."""

    allow_private: bool = False
    strict_urls: bool = True
    denied: tuple[Network, ...] = ()
    proxy: str = ""
    ca_file: Path | None = None

    @classmethod
    def configured(cls) -> Self:
        """Return the rules of this process's settings; allowing private addresses also relaxes the rules for URLs."""
        settings = get_settings()
        private = settings.webhook_allow_private
        return cls(private, not private, parse_networks(settings.egress_deny), settings.egress_proxy)


@dataclass(frozen=True)
class Timings:
    """Milliseconds of each phase; None when the phase did not happen (a reused connection has no DNS or TLS)."""

    dns_ms: int | None
    connect_ms: int | None
    tls_ms: int | None
    ttfb_ms: int | None
    total_ms: int


class Exchange:
    """The times of one request, recorded by resolver, guard, TLS and connector."""

    def __init__(self) -> None:
        self.started = monotonic()
        self.dns: float | None = None
        self.connect_started: float | None = None
        self.tls_started: float | None = None
        self.connected: float | None = None
        self.answered: float | None = None
        self.ip: str | None = None

    def timings(self) -> Timings:
        connect_end = self.tls_started or self.connected
        return Timings(
            dns_ms=_milliseconds(0.0, self.dns),
            connect_ms=_milliseconds(self.connect_started, connect_end),
            tls_ms=_milliseconds(self.tls_started, self.connected),
            ttfb_ms=_milliseconds(self.connected, self.answered),
            total_ms=round((monotonic() - self.started) * 1000),
        )


def _milliseconds(start: float | None, end: float | None) -> int | None:
    return None if start is None or end is None else round((end - start) * 1000)


current_exchange: ContextVar[Exchange] = ContextVar("exchange")


def system_lookup(host: str, port: int) -> AddressList:
    """Resolve a name with the system's resolver; return (address family, address) pairs."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [(family, str(sockaddr[0])) for family, _, _, _, sockaddr in addresses]


class _Resolver(AbstractResolver):
    """Resolves each name anew, one lookup per name at a time, and accepts an answer only if all addresses are allowed.

    Lookups run in daemon threads of their own: a name whose servers hang must not exhaust a shared pool or block an
    exit.
    """

    def __init__(self, egress: Egress, lookup: Lookup) -> None:
        self._egress = egress
        self._lookup = lookup
        self._lookups: dict[tuple[str, int], asyncio.Future[AddressList]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        started = monotonic()
        try:
            async with asyncio.timeout(DNS_SECONDS_MAX):
                addresses = await asyncio.shield(self._look_up(host, port))
        except TimeoutError as error:
            raise OSError(socket.EAI_AGAIN, "name lookup took too long") from error
        finally:
            current_exchange.get().dns = monotonic() - started
        if not addresses:
            raise OSError(socket.EAI_NONAME, "name has no address")
        if not self._egress.proxy:
            for _, address in addresses:
                _check_address(address, self._egress)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=family_of_address, proto=0, flags=socket.AI_NUMERICHOST
            )
            for family_of_address, address in addresses
        ]

    def _look_up(self, host: str, port: int) -> asyncio.Future[AddressList]:
        key = (host, port)
        if key not in self._lookups:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[AddressList] = loop.create_future()
            # Reading the exception marks it as retrieved: the waiting task may have timed out.
            future.add_done_callback(lambda done: (self._lookups.pop(key, None), done.cancelled() or done.exception()))
            self._lookups[key] = future
            threading.Thread(
                target=self._run_lookup, args=(loop, future, host, port), name="lookup", daemon=True
            ).start()
        return self._lookups[key]

    def _run_lookup(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[AddressList], host: str, port: int
    ) -> None:
        addresses: AddressList = []
        failed: OSError | None = None
        try:
            addresses = self._lookup(host, port)
        except (OSError, ValueError) as error:
            failed = error if isinstance(error, OSError) else OSError(str(error))
        # The loop may have closed while the lookup hung; then no task waits for its answer.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_set_result, future, addresses, failed)

    async def close(self) -> None:
        for future in list(self._lookups.values()):
            future.cancel()


def _set_result(future: asyncio.Future[AddressList], addresses: AddressList, failed: OSError | None) -> None:
    if future.done():
        return
    if failed is not None:
        future.set_exception(failed)
    else:
        future.set_result(addresses)


def _check_address(address: str, egress: Egress) -> None:
    reason = address_refusal(address, allow_private=egress.allow_private, denied=egress.denied)
    if reason:
        raise Blocked(f"{address} is {reason}")


class _TlsContext(ssl.SSLContext):
    """A client context that records when the handshake starts, which aiohttp does not report."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        current_exchange.get().tls_started = monotonic()
        return super().wrap_bio(*args, **kwargs)


class Connector(aiohttp.TCPConnector):
    """Guards every connection and records the peer of the connection that serves a request."""

    def __init__(self, egress: Egress, lookup: Lookup) -> None:
        self._egress = egress
        context = _TlsContext(ssl.PROTOCOL_TLS_CLIENT)
        if egress.ca_file:
            context.load_verify_locations(egress.ca_file)
        else:
            context.load_default_certs()
        context.set_alpn_protocols(["http/1.1"])
        super().__init__(
            resolver=_Resolver(egress, lookup),
            use_dns_cache=False,
            socket_factory=self._open_socket,
            ssl=context,
            limit=0,
            keepalive_timeout=KEEPALIVE_SECONDS,
        )

    def _open_socket(self, info: Any) -> socket.socket:
        family, kind, protocol, _, sockaddr = info
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise Blocked(f"address family {family} is not the internet")
        if not self._egress.proxy:
            _check_address(str(sockaddr[0]), self._egress)
        exchange = current_exchange.get()
        exchange.connect_started = exchange.connect_started or monotonic()
        return socket.socket(family, kind, protocol)

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        connection = await super().connect(req, traces, timeout)
        exchange = current_exchange.get()
        exchange.connected = monotonic()
        # Behind a proxy the peer is the proxy, an internal address that no customer's log may show.
        peer = connection.transport.get_extra_info("peername") if connection.transport else None
        exchange.ip = str(peer[0]) if peer and not self._egress.proxy else None
        return connection
