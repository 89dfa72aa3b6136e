"""Read the filters of the list of videos: status, model, project, group, time, own ids and metadata."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request

from app.errors import AppError
from app.jobs.field_types import METADATA_MAX
from app.jobs.find import JobFilter
from app.parsing import parse_integer

PAGING = ("after", "limit", "order")
# The caller's own ids, which orders keep in their metadata under these names.
OWN_IDS = ("user", "external_id")
FILTERS = ("status", "model", "search", "project", "group", *OWN_IDS, "created_after", "created_before")
TIME_FORMS = "Unix seconds, or a time such as 2026-11-30T12:00:00Z"
_METADATA = re.compile(r"metadata\[([^\[\]]{1,64})\]")
_LOST_PLUS = re.compile(r"(?<=\d) (\d\d(?::?\d\d)?)$")
_VALUE_LENGTH_MAX = 512

# FastAPI has no parameters with names of the caller's own.
METADATA_PARAMETER: dict[str, Any] = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "required": False,
            "style": "deepObject",
            "explode": True,
            "description": "`metadata[scene]=3`: only videos whose metadata has these entries.",
            "schema": {"type": "object", "additionalProperties": {"type": "string", "maxLength": _VALUE_LENGTH_MAX}},
        }
    ]
}

_TIME = Query(max_length=40, description=f"{TIME_FORMS}.")
Text = Annotated[str | None, Query(max_length=64)]


def read_filter(
    request: Request,
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled", "expired"] | None = None,
    model: Text = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
    project: Text = None,
    group: Annotated[str | None, Query(max_length=64, description="Videos that one call ordered together.")] = None,
    user: Annotated[str | None, Query(max_length=512, description="The end user that the order named.")] = None,
    external_id: Annotated[
        str | None, Query(max_length=512, description="The caller's own id that the order named.")
    ] = None,
    created_after: Annotated[str | None, _TIME] = None,
    created_before: Annotated[str | None, _TIME] = None,
) -> JobFilter:
    """Return the filter of a list. Raises AppError `invalid_request`, naming the parameter and what is allowed."""
    since, until = _moment(created_after, "created_after"), _moment(created_before, "created_before")
    if since is not None and until is not None and since >= until:
        message = "created_before must be later than created_after."
        raise AppError("invalid_request", message, field="created_before", allowed=f"after {created_after}")
    entries = _metadata(request)
    for name, value in (("user", user), ("external_id", external_id)):
        if value is not None and entries.setdefault(name, value) != value:
            message = f"{name} contradicts metadata[{name}]."
            raise AppError("invalid_request", message, field=name, allowed=entries[name])
    return JobFilter(
        state=status,
        model=model,
        search=search or None,
        project=project,
        group=group,
        metadata=entries,
        since=since,
        until=until,
    )


JobFilterDep = Annotated[JobFilter, Depends(read_filter)]


def _metadata(request: Request) -> dict[str, str]:
    """Return the entries of `metadata[name]=value`. An unknown parameter is refused: it would filter nothing."""
    entries: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in PAGING or name in FILTERS:
            continue
        entry = _METADATA.fullmatch(name)
        if entry is None:
            allowed = [*PAGING, *FILTERS, "metadata[name]"]
            raise AppError("invalid_request", f"There is no filter {name[:100]}.", field=name[:100], allowed=allowed)
        if len(value) > _VALUE_LENGTH_MAX or "\0" in name + value:
            message = f"A value of metadata has at most {_VALUE_LENGTH_MAX} characters, and no NUL."
            raise AppError("invalid_request", message, field=name, allowed=_VALUE_LENGTH_MAX)
        if entry[1] in entries:
            raise AppError("invalid_request", f"{name} was sent twice; a video has one value.", field=name, allowed=1)
        entries[entry[1]] = value
    if len(entries) > METADATA_MAX:
        message = f"Metadata has at most {METADATA_MAX} entries."
        raise AppError("invalid_request", message, field="metadata", allowed=METADATA_MAX)
    return entries


def _moment(text: str | None, field: str) -> datetime | None:
    """Parse Unix seconds, or an ISO 8601 time with its offset. Raises AppError `invalid_request` for anything else."""
    if text is None:
        return None
    seconds = parse_integer(text)
    refusal = AppError("invalid_request", f"{field} must be {TIME_FORMS}.", field=field, allowed=TIME_FORMS)
    try:
        if seconds is not None:
            return datetime.fromtimestamp(seconds, UTC)
        # The plus sign of an offset that was not escaped arrives as a space; one before the time is ISO 8601's.
        moment = datetime.fromisoformat(_LOST_PLUS.sub(r"+\1", text))
        if moment.tzinfo is None:
            raise refusal
        return moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise refusal from error
