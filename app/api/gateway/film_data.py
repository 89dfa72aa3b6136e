"""The film of a job as the gateway's client accepts it: a URL, or base64 where it would refuse our address.

The client downloads URLs without credentials and refuses those of private hosts, as a machine of its own may be. There
the film travels inside of the answer, up to a size.
"""

import base64
from ipaddress import ip_address

from yarl import URL

from app.concurrency import ConcurrencyLimit
from app.errors import AppError
from app.net.addresses import address_refusal
from app.settings import get_settings
from app.storage import get_storage

BASE64_BYTES_MAX = 32 * 2**20
MEDIA_TYPE = "video/mp4"
# A film in an answer takes up to about 120 MiB of memory while it is encoded.
_film_slot = ConcurrencyLimit("films", "sent as base64", each=4, together=8).hold


def is_private_address() -> bool:
    """Return whether the service's own address is one that clients on the internet cannot reach."""
    host = URL(get_settings().base_url()).host or ""
    try:
        return address_refusal(ip_address(host)) is not None
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal"))


def film_data(account_id: str, film_key: str, link: str) -> dict[str, str]:
    """Return a film as an entry of `videos`. To be called without a database session.

    `link` is its URL. Raises AppError `gone` for a film that is no longer stored, and `rate_limited` and `unavailable`
    while too many films are sent like this.
    """
    if not is_private_address():
        return {"type": "url", "url": link, "mediaType": MEDIA_TYPE}
    with _film_slot(account_id):
        stat = get_storage().stat(film_key)
        if stat is None:
            raise AppError("gone", "The file is no longer in storage.")
        if stat.bytes > BASE64_BYTES_MAX:
            return {"type": "url", "url": link, "mediaType": MEDIA_TYPE}
        content = b"".join(get_storage().read_range(film_key, 0, stat.bytes))
        return {"type": "base64", "data": base64.b64encode(content).decode(), "mediaType": MEDIA_TYPE}
