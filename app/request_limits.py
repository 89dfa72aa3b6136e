"""What a route is declared to be: how much work one of its requests is, and what its body may hold.

The declaration stands beside the route as a decorator of its handler, and is read before the body is.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from starlette.requests import Request

_ATTRIBUTE = "request_limits"
Handler = TypeVar("Handler", bound=Callable[..., Any])


class WorkKind(StrEnum):
    """What a request occupies while it is answered: light for most, and three kinds that are bounded more tightly."""

    NONE = "none"  # is answered by this process alone, whatever happens elsewhere
    LIGHT = "light"
    ORDER = "order"  # prices or orders a film
    STREAM = "stream"  # reads rows for an open event stream
    UPLOAD = "upload"  # receives, fetches or re-encodes a file


@dataclass(frozen=True)
class RequestLimits:
    """The declaration of a route.

    `work`: what one request occupies. `data_urls`: whether a JSON body may hold data URLs, which do not count against
    the limit of other JSON. `form_bytes_max`: the bytes of a form, where the route accepts more than other routes.
    `bytes_max` returns the same for a body of any type. `authorize` decides before the body is read who may send one,
    instead of what other routes of the interface do; it returns the name of the account or upload that the body counts
    for, and raises AppError. `hold_body` returns a slot that a large body holds besides, until its request has ended;
    entering it raises AppError. `body_seconds_max`: within how many seconds the whole body must arrive, however fast.
    """

    work: WorkKind = WorkKind.LIGHT
    data_urls: bool = False
    form_bytes_max: int | None = None
    bytes_max: Callable[[Request], int] | None = None
    authorize: Callable[[Request], str] | None = field(default=None)
    hold_body: Callable[[Request], AbstractContextManager[None]] | None = field(default=None)
    body_seconds_max: float = float("inf")


DEFAULT_LIMITS = RequestLimits()


def request_limits(limits: RequestLimits) -> Callable[[Handler], Handler]:
    """Return the decorator that declares the limits of the route whose handler it is put on."""

    def declare(handler: Handler) -> Handler:
        setattr(handler, _ATTRIBUTE, limits)
        return handler

    return declare


def declared_limits(handler: object) -> RequestLimits:
    """Return the limits that a route's handler declares, else the default ones."""
    limits: RequestLimits = getattr(handler, _ATTRIBUTE, DEFAULT_LIMITS)
    return limits
