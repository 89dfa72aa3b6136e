"""Application errors: a code, a message, and facts. The one table that maps codes to HTTP statuses is here."""

import json
from typing import Any

# What a refusal may repeat of a request: a body with a million unknown fields gets no answer of 90 MB.
FINDINGS_MAX = 20
REFUSAL_BYTES_MAX = 16 * 1024
_ENVELOPE_BYTES = 1024


class AppError(Exception):
    """An expected error that the caller sees.

    `code` is a stable snake_case identifier that clients may test for; `message` is a full sentence; `field` is the
    part of the request that was wrong, in dotted form (`shots.0.seconds`); further facts (the value, what is allowed)
    are copied into the problem document. Raises ValueError for a code that is not in ERROR_CODES.
    """

    def __init__(self, code: str, message: str, *, field: str | None = None, **facts: Any) -> None:
        if code not in HTTP_STATUS:
            raise ValueError(f"error code {code!r} has no HTTP status; add it to app/errors.py")
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.facts = facts

    @property
    def status(self) -> int:
        """The HTTP status of this code, in every API."""
        return HTTP_STATUS[self.code]


# The one table of error codes. The documented table is generated from it.
ERROR_CODES: dict[str, tuple[int, str]] = {
    # code: (HTTP status, what it means)
    "invalid_json": (400, "The body is not valid JSON."),
    "invalid_form": (400, "The form in the body cannot be read."),
    "invalid_request": (422, "A field is missing, unknown or has a value that is not allowed."),
    "unauthenticated": (401, "No key, or a key that is unknown, expired or revoked."),
    "insufficient_funds": (402, "The wallet cannot hold the price of this job."),
    "budget_exceeded": (402, "A budget of the key or the project cannot hold the price of this job."),
    "price_above_cap": (402, "The price is above the caller's max_price."),
    "forbidden": (403, "The key lacks the scope, or the member the role, that this needs."),
    "account_suspended": (403, "The account is suspended."),
    "orders_stopped": (403, "Too many orders were refused; an operator can allow them again."),
    "terms_not_acknowledged": (403, "No operator of this service has accepted the terms of the model yet."),
    "not_found": (404, "The object does not exist, or belongs to another account."),
    "method_not_allowed": (405, "This URL does not support this method."),
    "request_timeout": (408, "The body did not arrive in time; send it again, over a faster connection."),
    "conflict": (409, "The state of the object does not allow this."),
    "not_finished": (409, "The job has not ended yet; cancel it first."),
    "too_late": (409, "The film is already being finished and can no longer be cancelled."),
    "already_final": (409, "The job has already ended."),
    "storage_full": (409, "The account's uploaded files have as many bytes as its membership allows."),
    "gone": (410, "The file was deleted when its retention ended."),
    "body_too_large": (413, "The body is larger than this URL accepts."),
    "unsupported_media_type": (415, "This URL does not accept this content type."),
    "range_not_satisfiable": (416, "The requested range is outside the file."),
    "unknown_model": (422, "No enabled video model has this name."),
    "model_retired": (422, "The model accepts no orders any more; `replaced_by` names another one."),
    "unsupported_size": (422, "The size is not one of the listed sizes."),
    "mode_unsupported": (422, "The model does not support this mode."),
    "sound_unsupported": (422, "The model makes no sound."),
    "does_not_fit": (422, "No worker has a GPU with the memory that the model needs for this size and length."),
    "no_rate": (422, "The current price book has no rate for this; nothing is sold without a price."),
    "idempotency_mismatch": (422, "The Idempotency-Key was used before with another body."),
    "quote_mismatch": (422, "The quote was made for another request."),
    "quote_expired": (422, "The quote has expired."),
    "quote_used": (422, "The quote has been redeemed by another job."),
    "too_many_quotes": (429, "The account has reached its limit of open quotes."),
    "invalid_price_book": (422, "The price book does not parse, or one of its worked examples fails."),
    "asset_refused": (422, "The uploaded file is not a picture, clip or sound that can be used."),
    "content_refused": (
        422,
        "The service does not make what the prompt, a picture or the film shows; `stage` and `category` say more.",
    ),
    "url_refused": (422, "The URL cannot be fetched or posted to."),
    "rate_limited": (429, "Too many requests; retry after the time given."),
    "queue_full": (429, "The account has as many waiting jobs as its membership allows."),
    "intake_paused": (503, "New jobs are paused for this model or account."),
    "unavailable": (503, "A required part of the service is unavailable now."),
    "deadline_exceeded": (504, "The film was not finished while the call waited; it goes on, and is not lost."),
    "internal_error": (500, "An internal error; nothing was charged."),
}

HTTP_STATUS: dict[str, int] = {code: status for code, (status, _) in ERROR_CODES.items()}


def not_found(noun: str, identifier: str) -> AppError:
    """Return the error for an object that does not exist, or belongs to another tenant: the two look the same."""
    return AppError("not_found", f"There is no {noun} with this id.", noun=noun, id=identifier)


def shortened(error: AppError) -> AppError:
    """Return an error whose document has fewer than REFUSAL_BYTES_MAX bytes, whatever the request held.

    Messages and facts repeat parts of the request (a field's name, its value); where they are too long, texts and lists
    are cut.
    """
    for text_max in (2_000, 400, 50):
        # A document has the message and the field twice each.
        document = [error.message, error.message, error.field, error.field, error.facts]
        if len(json.dumps(document, default=str)) < REFUSAL_BYTES_MAX - _ENVELOPE_BYTES:
            break
        facts = {name: _cut(value, text_max) for name, value in error.facts.items()}
        error = AppError(error.code, _cut(error.message, text_max), field=_cut(error.field, text_max), **facts)
    return error


def _cut(value: Any, text_max: int) -> Any:
    """Return a value with its texts cut to `text_max` characters and its lists to FINDINGS_MAX elements."""
    if isinstance(value, str):
        return value if len(value) <= text_max else f"{value[: text_max - 1]}…"
    if isinstance(value, dict):
        return {name: _cut(each, text_max) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_cut(each, text_max) for each in list(value)[:FINDINGS_MAX]]
    return value
