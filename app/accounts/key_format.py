"""The format of an API key: `cm_live_<keyid>_<secret><checksum>`, all of it base 62.

The prefix lets scanners find leaked keys; the checksum lets them, and us, refuse a mistyped one without the database.
The keyid (8 characters) is public and finds the row; the secret is 256 random bits (43 characters).
"""

import hashlib
import re
import secrets
import zlib
from typing import NamedTuple

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORMAT = re.compile(r"cm_(?P<mode>live|test)_(?P<keyid>[0-9A-Za-z]{8})_[0-9A-Za-z]{43}(?P<checksum>[0-9A-Za-z]{6})")


class ParsedKey(NamedTuple):
    """A key in full, and the parts of it that are stored."""

    secret: str
    keyid: str
    hash: str
    last4: str


def new_key(*, test: bool) -> ParsedKey:
    """Make a key out of fresh random bits."""
    keyid = _base62(secrets.randbelow(62**8), 8)
    body = f"cm_{'test' if test else 'live'}_{keyid}_{_base62(secrets.randbits(256), 43)}"
    secret = body + _checksum(body)
    return ParsedKey(secret, keyid, hash_key(secret), secret[-4:])


def parse_key_id(secret: str) -> str | None:
    """Return the keyid of a well-formed key, or None when the format or the checksum is wrong."""
    match = _FORMAT.fullmatch(secret)
    if match is None or _checksum(secret[:-6]) != match["checksum"]:
        return None
    return match["keyid"]


def hash_key(secret: str) -> str:
    """Return the SHA-256 of a key in hex. 256 random bits need no slow hash; human passwords do."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), 6)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
