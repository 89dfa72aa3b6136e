"""How unknown fields of an order are handled: refused by name, or ignored with a warning (RFC 7240, `Prefer`)."""

from enum import StrEnum
from typing import Annotated, Any

from fastapi import Depends, Header, Response
from pydantic import ValidationError

from app.errors import AppError
from app.jobs.order_warnings import FIELD_LENGTH_MAX, OrderWarning
from app.jobs.schemas import VideoRequest


class Handling(StrEnum):
    """What to do with fields that cannot be honoured."""

    STRICT = "strict"
    LENIENT = "lenient"


# What these fields ask for would change the picture, its length or the price, so no handling ignores them.
NEVER_IGNORED = frozenset(
    (
        *("lora", "loras", "lora_path", "lora_scale", "lora_name", "lora_strength"),
        *("enable_frame_interpolation", "enable_upscaling", "mask", "loop", "template", "camera_control"),
        *("reference_image", "reference_images", "reference_image_urls", "input_references", "reference_video"),
        *("reference_videos", "reference_audio", "reference_voice", "reference_url", "reference_urls"),
        *("n", "num_outputs_per_prompt", "num_outputs", "sample_count", "num_videos"),
    )
)


def preferred_handling(
    response: Response,
    prefer: Annotated[
        list[str] | None,
        Header(description="`handling=lenient` ignores unknown fields with a warning, `handling=strict` refuses them."),
    ] = None,
) -> Handling | None:
    """Return the handling that the Prefer header asks for, or None; the answer says that it was applied."""
    handling = read_handling(prefer or [])
    if handling is not None:
        response.headers["preference-applied"] = f"handling={handling}"
    return handling


HandlingDep = Annotated[Handling | None, Depends(preferred_handling)]


def read_handling(headers: list[str]) -> Handling | None:
    """Return the first `handling` among the preferences of these header fields; other preferences are ignored."""
    for preference in ",".join(headers).lower().split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip() == "handling" and value.strip().strip('"') in tuple(Handling):
            return Handling(value.strip().strip('"'))
    return None


def ignored(field: str) -> OrderWarning:
    """Return the warning about a field that was ignored."""
    name = field[:FIELD_LENGTH_MAX]
    return OrderWarning("ignored", f"{name} is not known here and was ignored.", name)


def validate_order(values: dict[str, Any], *, is_lenient: bool) -> tuple[VideoRequest, list[OrderWarning]]:
    """Return the request of these values, and a warning for each unknown field that lenient handling ignored.

    Raises pydantic's ValidationError, and AppError `invalid_request` for a field that no handling ignores.
    """
    try:
        return VideoRequest.model_validate(values), []
    except ValidationError as error:
        unknown = [each["loc"] for each in error.errors() if each["type"] == "extra_forbidden"]
        if not is_lenient or not unknown:
            raise
    names = {place: ".".join(map(str, place)) for place in unknown}
    never = next((place for place in names if place[-1] in NEVER_IGNORED), None)
    if never is not None:
        raise cannot_ignore(names[never])
    return VideoRequest.model_validate(_without(values, list(names))), [ignored(name) for name in names.values()]


def cannot_ignore(field: str) -> AppError:
    """Return the refusal of a field that would change the film and that the service cannot honour."""
    message = f"{field} is not supported; ignoring it would change the film."
    return AppError("invalid_request", message, field=field)


def _without(values: Any, places: list[tuple[int | str, ...]]) -> Any:
    """Return a copy of nested values without the fields at these places."""
    inner: dict[int | str, list[tuple[int | str, ...]]] = {}
    for name, *beyond in places:
        inner.setdefault(name, []).append(tuple(beyond))
    pairs = enumerate(values) if isinstance(values, list) else values.items()
    remaining = {
        name: _without(each, inner[name]) if name in inner else each
        for name, each in pairs
        if () not in inner.get(name, ())
    }
    return list(remaining.values()) if isinstance(values, list) else remaining
