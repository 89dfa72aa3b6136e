"""What clients of inference servers ask before they order: whether the server lives, and which model it serves."""

from typing import Any

from fastapi import APIRouter

from app.api.access import VideosCaller
from app.api.videos.dialects import model_info
from app.catalog.models import load_catalog
from app.errors import AppError
from app.jobs.model_terms import on_sale
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.request_session import SessionDep
from app.settings import get_settings

router = APIRouter(tags=["models"])


@router.head("/health", include_in_schema=False)
@router.get("/health", include_in_schema=False)
@request_limits(RequestLimits(WorkKind.NONE))
async def get_server_health() -> dict[str, str]:
    """Report that this process is alive: `/healthz` under the name that inference servers have for it."""
    return {"status": "ok"}


@router.get("/v1/model_info")
def get_model_info(session: SessionDep, caller: VideosCaller) -> dict[str, Any]:
    """Return the name of the first enabled model as SGLang does; GET /v1/models describes all of them."""
    models = on_sale(session, load_catalog(get_settings().catalog_dir).values())
    # The synthetic model draws colour bars; it is named where there is no other.
    ordered = sorted(models, key=lambda each: each.family == "synthetic")
    if not ordered:
        raise AppError("not_found", "No model is enabled.", noun="model")
    return model_info(ordered)
