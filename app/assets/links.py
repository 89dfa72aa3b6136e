"""Expiring upload URLs, for storage without presigned ones. They need no key."""

from dataclasses import dataclass
from datetime import datetime

from app.errors import AppError
from app.settings import get_settings
from app.signed_tokens import InvalidToken, SignedToken, TokenPurpose, read_token, sign_token

PATH = "/v1/assets/uploads/"


@dataclass(frozen=True)
class UploadLink:
    """The permission of an upload URL: exactly `size` bytes for this pending asset, until its token expires."""

    asset_id: str
    size: int
    token: SignedToken


def make_upload_link(asset_id: str, *, size: int, expires_at: datetime) -> str:
    """Return the URL to which exactly `size` bytes may be put for the asset until `expires_at`."""
    token = sign_token(TokenPurpose.ASSET_UPLOAD, asset_id, str(size), expires_at=expires_at)
    return f"{get_settings().base_url()}{PATH}{token}"


def open_upload_link(token: str) -> UploadLink:
    """Return the permission of a token; the caller checks whether it has expired. Raises AppError `not_found`."""
    try:
        content = read_token(TokenPurpose.ASSET_UPLOAD, token)
        asset_id, size = content.values
        return UploadLink(asset_id, int(size), content)
    except (InvalidToken, ValueError):
        raise AppError("not_found", "There is no upload at this URL.") from None
