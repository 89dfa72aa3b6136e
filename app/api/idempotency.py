"""Read the Idempotency-Key header and the retry headers of client libraries, the same at every interface."""

from fastapi import Request

from app.errors import AppError

KEY_LENGTH_MAX = 255


def idempotency_key(request: Request) -> str | None:
    """Return a request's Idempotency-Key, without the quotes that the draft standard puts around it.

    The quoted and the unquoted form are the same key.

    Raises AppError `invalid_request` for a key that is empty or too long.
    """
    header = request.headers.get("idempotency-key")
    if header is None:
        return None
    key = header.strip().strip('"')
    if not 1 <= len(key) <= KEY_LENGTH_MAX:
        message = f"An Idempotency-Key must have 1 to {KEY_LENGTH_MAX} characters."
        raise AppError("invalid_request", message, field="Idempotency-Key", allowed=[1, KEY_LENGTH_MAX])
    return key


def is_retry(request: Request) -> bool:
    """Return whether the headers say that a client library repeats the call, as OpenAI's does without a key."""
    return request.headers.get("x-stainless-retry-count", "0") not in ("", "0")


def is_first_try(request: Request) -> bool:
    """Return whether the headers say that a client library which repeats calls by itself makes this one first."""
    return request.headers.get("x-stainless-retry-count") == "0"
