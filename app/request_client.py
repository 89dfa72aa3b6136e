"""Whom a request counts for before it is authenticated: an account that has proved itself lately, or an address.

What a request carries is compared with what was valid a short while ago. So the work of one account is counted
together, however many keys it uses, and a made-up key never counts as more than the address that it comes from.
Nothing else follows from it: every request is still authenticated.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.requests import Request

from app.logs import add_log_ids

# How long credentials count for their account after they were last valid.
_REMEMBERED_SECONDS = 60.0
_REMEMBERED_MAX = 10_000


@dataclass(frozen=True)
class RequestClient:
    """Whom a request counts for: the account `name`, or a stranger at the address `name`."""

    name: str
    is_known: bool


class ValidCredentials:
    """The credentials that were valid lately, as hashes, with the account of each; the oldest are forgotten."""

    def __init__(self, *, seconds: float = _REMEMBERED_SECONDS, size_max: int = _REMEMBERED_MAX) -> None:
        self._seconds, self._size_max = seconds, size_max
        self._accounts: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, credentials: str, account_id: str) -> None:
        """Remember that these credentials were valid just now."""
        with self._lock:
            self._accounts[credentials] = (time.monotonic() + self._seconds, account_id)
            self._accounts.move_to_end(credentials)
            while len(self._accounts) > self._size_max:
                self._accounts.popitem(last=False)

    def account_of(self, credentials: str) -> str | None:
        """Return the account of credentials that were valid lately, or None."""
        until, account_id = self._accounts.get(credentials, (0.0, ""))
        return account_id if until > time.monotonic() else None


_valid = ValidCredentials()


def credentials_hash(request: Request) -> str | None:
    """Return a hash of the key or the cookies that a request carries, or None where it carries neither."""
    credentials = request.headers.get("authorization") or request.headers.get("cookie")
    return hashlib.sha256(credentials.encode()).hexdigest() if credentials else None


def client_of(request: Request) -> Callable[[], RequestClient]:
    """Return a function that says whom a request counts for, as far as that is known when it is called."""
    credentials = credentials_hash(request)
    stranger = RequestClient(request.client.host if request.client else "", is_known=False)

    def find_client() -> RequestClient:
        account_id = _valid.account_of(credentials) if credentials else None
        return stranger if account_id is None else RequestClient(account_id, is_known=True)

    return find_client


def remember_client(request: Request, account_id: str) -> None:
    """Count a request that was authenticated, and those that follow with the same credentials, for its account.

    The lines that the request logs from here on carry the account.
    """
    add_log_ids(account_id=account_id)
    credentials = credentials_hash(request)
    if credentials is not None:
        _valid.add(credentials, account_id)
    place = getattr(request.state, "gate_place", None)
    if place is not None:
        place.count_for(RequestClient(account_id, is_known=True))


def machine_of(client_ip: str) -> str:
    """Return the machine that an IP address counts for: of IPv6, one customer has at least a /64."""
    try:
        address = ip_address(client_ip)
    except ValueError:
        return f"machine:{client_ip}"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, IPv6Address):
        return f"machine:{ip_network((address, 64), strict=False)}"
    return f"machine:{address}"
