"""Signed tokens with an expiry, for links that work without a key: films, uploads, new passwords.

A token is `{value}.….{expires}.{signature}`. Each purpose signs with a key of its own, derived from the service's
secret, so a token for one purpose never opens another. Whoever reads a token decides what an expired one means.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from itsdangerous import BadSignature, Signer

from app.parsing import parse_integer
from app.settings import get_settings


class TokenPurpose(StrEnum):
    """What a token is for. The values are part of every signature: changing one voids the tokens in use."""

    FILM = "cinemeter-file"
    ASSET_UPLOAD = "cinemeter-upload"
    DASHSCOPE_UPLOAD = "cinemeter-dashscope-upload"
    NEW_PASSWORD = "welcome"
    DEVICE = "cinemeter-device"
    REVIEW_FILE = "cinemeter-review-file"
    SHARE = "cinemeter-share"


class InvalidToken(Exception):
    """The token is malformed or was not signed by this service for this purpose."""


@dataclass(frozen=True)
class SignedToken:
    """The content of a token whose signature is valid."""

    values: tuple[str, ...]
    expires: int  # Unix seconds

    def has_expired(self, moment: datetime) -> bool:
        """Return whether the token has expired at `moment`."""
        return self.expires <= moment.timestamp()


def sign_token(purpose: TokenPurpose, *values: str, expires_at: datetime) -> str:
    """Return a token that is safe in a URL path. Raises ValueError for a value with a full stop, the separator."""
    if any("." in value for value in values):
        raise ValueError("a value of a signed token must not contain a full stop")
    content = ".".join([*values, str(int(expires_at.timestamp()))])
    return _signer(purpose).sign(content).decode()


def read_token(purpose: TokenPurpose, token: str) -> SignedToken:
    """Return the content of a token, expired or not. Raises InvalidToken."""
    content, _, signature = token.rpartition(".")
    if not _is_signed(purpose, token) and not _is_legacy_signed(purpose, content, signature):
        raise InvalidToken
    *values, last = content.split(".")
    expires = parse_integer(last)
    if expires is None:
        raise InvalidToken
    return SignedToken(tuple(values), expires)


def _signer(purpose: TokenPurpose) -> Signer:
    return Signer(get_settings().secret_key(), salt=purpose, key_derivation="hmac", digest_method=hashlib.sha256)


def _is_signed(purpose: TokenPurpose, token: str) -> bool:
    try:
        _signer(purpose).unsign(token)
    except BadSignature:
        return False
    return True


def _is_legacy_signed(purpose: TokenPurpose, content: str, signature: str) -> bool:
    """Return whether a version before this module signed the content; such links work until they expire, for a day."""
    digest = hmac.digest(get_settings().secret_key(), f"{purpose}:{content}".encode(), "sha256")
    legacy = base64.urlsafe_b64encode(digest[:24]).rstrip(b"=")
    return hmac.compare_digest(signature.encode(), legacy)
