"""The film of a job as the gateway's client accepts it: a URL, or base64 where it would refuse our address.

The client downloads URLs without credentials and refuses those of private hosts, as a machine of its own may be. There
the film travels inside of the answer, up to a size.
"""

import base64
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from yarl import URL

from app.concurrency import ConcurrencyLimit
from app.errors import AppError
from app.event_stream import stream_slot
from app.net.addresses import address_refusal
from app.settings import get_settings
from app.storage import get_storage

BASE64_BYTES_MAX = 32 * 2**20
MEDIA_TYPE = "video/mp4"
# Requests that wait for the store at once, as at downloads.
_stat_slot = ConcurrencyLimit("films", "read", each=8, together=16).hold


def is_private_address() -> bool:
    """Return whether the service's own address is one that clients on the internet cannot reach."""
    host = URL(get_settings().base_url()).host or ""
    try:
        return address_refusal(ip_address(host)) is not None
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal"))


@dataclass(frozen=True)
class Film:
    """The film of an account's job: its key in storage, and its URL."""

    account_id: str
    key: str
    link: str


@dataclass(frozen=True)
class FilmEntry:
    """A film as an answer holds it: its URL, or its stored file of so many bytes, sent as base64."""

    film: Film
    inline_bytes: int | None


def find_films(films: Sequence[Film]) -> list[FilmEntry]:
    """Return how films are sent together: inside of the answer only while they fit into it. Raises as `find_film`."""
    entries, room = [], BASE64_BYTES_MAX
    for film in films:
        entry = find_film(film)
        if entry.inline_bytes is not None and entry.inline_bytes > room:
            entry = FilmEntry(film, None)
        room -= entry.inline_bytes or 0
        entries.append(entry)
    return entries


def find_film(film: Film) -> FilmEntry:
    """Return how a film is sent. Waits for the store, so it is called in a thread and without a database session.

    Raises AppError `gone` for a film that is no longer stored, and `rate_limited` and `unavailable` while the store is
    slow.
    """
    if not is_private_address():
        return FilmEntry(film, None)
    with _stat_slot(film.account_id):
        stat = get_storage().stat(film.key)
    if stat is None:
        raise AppError("gone", "The file is no longer in storage.")
    return FilmEntry(film, stat.bytes if stat.bytes <= BASE64_BYTES_MAX else None)


async def with_films(content: dict[str, Any], entries: Sequence[FilmEntry]) -> AsyncIterator[bytes]:
    """Yield the JSON of `content` with its `videos`, in pieces: never more than one of a film's is in memory."""
    yield f'{json.dumps(content)[:-1]}, "videos": ['.encode()
    for number, entry in enumerate(entries):
        yield b", " if number else b""
        if entry.inline_bytes is None:
            yield json.dumps({"type": "url", "url": entry.film.link, "mediaType": MEDIA_TYPE}).encode()
            continue
        yield f'{{"type": "base64", "mediaType": "{MEDIA_TYPE}", "data": "'.encode()
        async for piece in iterate_in_threadpool(_base64_pieces(entry.film.key, entry.inline_bytes)):
            yield piece
        yield b'"}'
    yield b"]}"


def _base64_pieces(key: str, size: int) -> Iterator[bytes]:
    """Yield a stored file as base64. Three bytes are four characters, so each piece but the last is of whole threes."""
    rest = b""
    for chunk in get_storage().read_range(key, 0, size):
        data = rest + chunk
        end = len(data) - len(data) % 3
        yield base64.b64encode(data[:end])
        rest = data[end:]
    yield base64.b64encode(rest)


class InlineFilmResponse(StreamingResponse):
    """JSON with films. It counts as a stream until it was sent, and raises AppError as EventStream does."""

    def __init__(self, account_id: str, content: dict[str, Any], entries: Sequence[FilmEntry]) -> None:
        super().__init__(with_films(content, entries), media_type="application/json")
        self._account_id = account_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with stream_slot(self._account_id):
            await super().__call__(scope, receive, send)
