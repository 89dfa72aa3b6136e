"""Download one file from a customer's URL: guarded at every connection, limited while it streams."""

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from app.errors import AppError
from app.net.addresses import url_refusal, without_query
from app.net.guard import Egress, Exchange, Lookup, current_exchange, system_lookup
from app.net.post import open_session

log = logging.getLogger(__name__)

REDIRECTS_MAX = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK_BYTES = 65_536


@dataclass(frozen=True)
class FetchResult:
    """A downloaded file: its size and hash on disk, and the content type that its server declared."""

    path: Path
    bytes: int
    sha256: str
    content_type: str


def fetch_to(
    path: Path,
    url: str,
    *,
    bytes_max: int,
    seconds: float,
    field: str = "url",
    egress: Egress | None = None,
    lookup: Lookup = system_lookup,
) -> FetchResult:
    """Fetch `url` into `path` (replaced only when complete) within `seconds` in total, redirects included.

    At most five redirects are followed and each is checked like the first URL. Call it from a thread without a running
    event loop. Raises AppError `url_refused`; blocked and unreachable look the same, so that nobody can map our network
    by trying URLs. A file of more than `bytes_max` bytes is refused as soon as that is known.
    """
    rules = egress or Egress.configured()
    draft = path.with_name(path.name + ".part")
    try:
        fetched = asyncio.run(_fetch(draft, url, bytes_max, seconds, rules, lookup))
        draft.replace(path)
    except _RefusedError as error:
        raise AppError("url_refused", str(error), field=field, url=url[:200]) from error
    except TimeoutError as error:
        message = f"The file behind this URL did not arrive within {seconds:g} seconds."
        raise AppError("url_refused", message, field=field, url=url[:200]) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        log.info("A file could not be fetched from %s: %s", without_query(url), _describe(error))
        raise AppError("url_refused", "This URL cannot be reached.", field=field, url=url[:200]) from error
    finally:
        draft.unlink(missing_ok=True)
    return FetchResult(path, *fetched)


def _describe(error: Exception) -> str:
    """Return what a line may say of an error: the messages of other kinds may hold the whole URL."""
    return f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__


class _RefusedError(Exception):
    """The fetch ended for a reason that the customer may see."""


async def _fetch(
    draft: Path, url: str, bytes_max: int, seconds: float, egress: Egress, lookup: Lookup
) -> tuple[int, str, str]:
    async with asyncio.timeout(seconds), open_session(egress, lookup) as http:
        for _ in range(REDIRECTS_MAX + 1):
            reason = url_refusal(url, http=True, strict=egress.strict_urls)
            if reason:
                raise _RefusedError(f"This URL cannot be used: {reason}.")
            current_exchange.set(Exchange())
            async with http.get(url, allow_redirects=False, proxy=egress.proxy or None) as response:
                if response.status not in _REDIRECTS:
                    return await _store(response, draft, bytes_max)
                url = str(URL(url).join(URL(response.headers.get("location", ""))))
    raise _RefusedError(f"This URL redirects more than {REDIRECTS_MAX} times.")


async def _store(response: aiohttp.ClientResponse, draft: Path, bytes_max: int) -> tuple[int, str, str]:
    if response.status != 200:
        raise _RefusedError(f"This URL answers with status {response.status}.")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _RefusedError("This URL answers with a compressed body although none was requested.")
    too_large = _RefusedError(f"The file behind this URL is larger than {bytes_max:,} bytes.")
    if (response.content_length or 0) > bytes_max:
        raise too_large
    digest, size = hashlib.sha256(), 0
    with draft.open("wb") as file:
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            size += len(chunk)
            if size > bytes_max:
                raise too_large
            digest.update(chunk)
            file.write(chunk)
    return size, digest.hexdigest(), response.content_type
