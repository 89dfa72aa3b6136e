"""Liveness and readiness checks for load balancers and operators."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import text

from app.db import get_engine
from app.redis_client import get_redis
from app.storage import get_storage

router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
def get_health() -> dict[str, str]:
    """Report that this process is alive. No other service is checked."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"description": "A service that orders need is unavailable."}})
def get_readiness(response: Response) -> dict[str, Any]:
    """Report whether orders can be accepted: database and storage must respond; Redis may be down."""
    parts = {
        "database": _status_of(_check_database),
        "redis": _status_of(_check_redis),
        "storage": _status_of(_check_storage),
    }
    is_ready = parts["database"] == "ok" and parts["storage"] == "ok"
    if not is_ready:
        response.status_code = 503
    return {"status": "ok" if is_ready else "unavailable", "parts": parts}


def _status_of(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:  # noqa: BLE001 — any failure is reported by the name of its class.
        return type(error).__name__
    return "ok"


def _check_database() -> None:
    with get_engine().connect() as connection:
        connection.execute(text("SELECT 1"))


def _check_redis() -> None:
    get_redis().ping()


def _check_storage() -> None:
    get_storage().stat("readyz")
