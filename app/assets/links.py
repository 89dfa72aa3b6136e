"""Expiring addresses at which a client puts its upload, where storage has none of its own. They need no key."""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime

from app.errors import AppError
from app.settings import get_settings

PATH = "/v1/assets/uploads/"
_WORDS = re.compile(r"asset_[0-9a-z]+\.[0-9]{1,12}\.[0-9]{1,12}")


@dataclass(frozen=True)
class UploadLink:
    """What an address allows: so many bytes for this pending asset, until then (Unix seconds)."""

    asset_id: str
    size: int
    expires: int


def make_upload_link(asset_id: str, *, size: int, expires_at: datetime) -> str:
    """Return the address at which exactly `size` bytes may be put for the asset until `expires_at`."""
    words = f"{asset_id}.{size}.{int(expires_at.timestamp())}"
    return f"{get_settings().base_url()}{PATH}{words}.{_signature(words)}"


def open_upload_link(token: str) -> UploadLink:
    """Return what a token allows; whether it has expired is for the caller to see. Raises AppError `not_found`."""
    words, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(words).encode()) or not _WORDS.fullmatch(words):
        raise AppError("not_found", "There is no upload at this address.")
    asset_id, size, expires = words.split(".")
    return UploadLink(asset_id, int(size), int(expires))


def _signature(words: str) -> str:
    digest = hmac.new(get_settings().secret_key(), b"cinemeter-upload:" + words.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest[:24]).decode().rstrip("=")
