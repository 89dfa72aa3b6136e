"""An order as the native interface receives it: validated, in native terms, with what its caller should know."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import UploadFile

from app.api.handling import Handling, validate_order
from app.api.videos.dialects import translate_dialect
from app.api.videos.translate import Body
from app.jobs.order_warnings import OrderWarning
from app.jobs.schemas import VideoRequest


@dataclass(frozen=True)
class ReceivedOrder:
    """A validated request, its files by field, and the warnings for its caller."""

    request: VideoRequest
    files: Mapping[str, UploadFile]
    warnings: tuple[OrderWarning, ...]


def read_order(body: Body, handling: Handling | None) -> ReceivedOrder:
    """Return the order in a body.

    Fields of other servers are translated. Unknown ones are refused by name, unless the handling is lenient; fields
    that the model sets here are ignored with a warning, unless it is strict. Raises pydantic's ValidationError and
    AppError `invalid_request`.
    """
    values = dict(body.values)
    warnings = translate_dialect(values, is_strict=handling is Handling.STRICT)
    request, more = validate_order(values, is_lenient=handling is Handling.LENIENT)
    return ReceivedOrder(request, body.files, (*warnings, *more))
