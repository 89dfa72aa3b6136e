"""Passwords of members, kept as argon2id (RFC 9106's second recommended choice, argon2-cffi's default)."""

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.errors import AppError

LENGTH_MIN = 10
# Argon2 reads all of it; without a bound a long one would be a cheap way to load the server.
LENGTH_MAX = 1024

_hasher = PasswordHasher()
# An unknown e-mail address is compared with this, so that it takes as long to refuse as a wrong password.
_DUMMY_HASH = (
    "$argon2id$v=19$m=65536,t=3,p=4$c29tZSBzYWx0IGhlcmU$"  # `some salt here`
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)


def hash_password(password: str) -> str:
    """Return the argon2id hash of a new password. Raises AppError `invalid_request` if it is too short or too long."""
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        raise AppError(
            "invalid_request",
            f"A password has {LENGTH_MIN} to {LENGTH_MAX} characters.",
            field="password",
            allowed={"min": LENGTH_MIN, "max": LENGTH_MAX},
        )
    return _hasher.hash(password)


def is_password(stored: str | None, password: str) -> bool:
    """Say whether a password is the one that was stored; with nothing stored it takes as long to say no."""
    try:
        return _hasher.verify(stored or _DUMMY_HASH, password[:LENGTH_MAX])
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(stored: str) -> bool:
    """Say whether a hash was made with weaker parameters than today's, so that the next sign-in should renew it."""
    return _hasher.check_needs_rehash(stored)
