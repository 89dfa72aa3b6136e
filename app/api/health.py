"""Whether the service lives, and whether it is ready: what a load balancer and an operator ask."""

from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import text

from app.db import get_engine
from app.redis_client import get_redis
from app.storage import get_storage

router = APIRouter(tags=["health"])


@router.get("/healthz")
def get_health() -> dict[str, str]:
    """Say that this process lives; it asks nothing of others."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "A part that orders need is away."}})
def get_readiness(response: Response) -> dict[str, Any]:
    """Say whether orders can be taken: the database must answer. Redis may be away; the doorbell rings later."""
    parts = {"database": _try(_ask_database), "redis": _try(_ask_redis), "storage": _try(_ask_storage)}
    is_ready = parts["database"] == "ok" and parts["storage"] == "ok"
    if not is_ready:
        response.status_code = 503
    return {"status": "ok" if is_ready else "unavailable", "parts": parts}


def _try(ask: Any) -> str:
    try:
        ask()
    except Exception as error:  # noqa: BLE001 — whatever is wrong, the answer is its kind.
        return type(error).__name__
    return "ok"


def _ask_database() -> None:
    with get_engine().connect() as connection:
        connection.execute(text("SELECT 1"))


def _ask_redis() -> None:
    get_redis().ping()


def _ask_storage() -> None:
    get_storage().stat("readyz")
