"""GET /llms.txt: how to use this service, for agents that read one page before they call anything."""

from functools import cache
from pathlib import Path

from fastapi import APIRouter, Response

from app.request_limits import RequestLimits, WorkKind, request_limits
from app.settings import get_settings

FILE = Path(__file__).with_name("llms.txt")

router = APIRouter(include_in_schema=False)


@router.head("/llms.txt")
@router.get("/llms.txt")
@request_limits(RequestLimits(WorkKind.NONE))
async def get_agent_guide() -> Response:
    """Return the guide for agents, with the URLs of this service."""
    return Response(_guide(get_settings().base_url()), media_type="text/plain; charset=utf-8")


@cache
def _guide(base_url: str) -> str:
    return FILE.read_text(encoding="utf-8").replace("{base_url}", base_url)
