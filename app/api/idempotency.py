"""What makes a repeated call recognisable at every door: its Idempotency-Key, or a client that repeats by itself."""

from fastapi import Request

from app.errors import AppError

KEY_LENGTH_MAX = 255


def idempotency_key(request: Request) -> str | None:
    """Return a request's Idempotency-Key, without the quotes that its draft standard gives it.

    Both spellings are one key. Raises AppError `invalid_request` for one that is empty or too long.
    """
    header = request.headers.get("idempotency-key")
    if header is None:
        return None
    key = header.strip().strip('"')
    if not 1 <= len(key) <= KEY_LENGTH_MAX:
        message = f"An Idempotency-Key has 1 to {KEY_LENGTH_MAX} characters."
        raise AppError("invalid_request", message, field="Idempotency-Key", allowed=[1, KEY_LENGTH_MAX])
    return key


def is_retry(request: Request) -> bool:
    """Say whether a client library tells that it repeats the call by itself, as OpenAI's does without a key."""
    return request.headers.get("x-stainless-retry-count", "0") not in ("", "0")
