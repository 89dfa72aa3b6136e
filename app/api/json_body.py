"""The body of an order at the interfaces whose clients send JSON only."""

from typing import Annotated

from fastapi import Depends, Request

from app.api.problems import is_json, wrong_type
from app.api.videos.translate import Body, read_body


async def _require_json(request: Request) -> None:
    if not is_json(request):
        raise wrong_type(request, ["application/json"])


async def _read_json_body(
    _type: Annotated[None, Depends(_require_json)], body: Annotated[Body, Depends(read_body)]
) -> Body:
    """Return a JSON body; the files of a form would be lost. Raises AppError as `read_body` does."""
    return body


JsonBodyDep = Annotated[Body, Depends(_read_json_body)]
