"""Liveness and readiness checks for load balancers and operators."""

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Response
from sqlalchemy import text

from app.db import get_engine
from app.redis_client import get_redis
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.storage import get_storage

router = APIRouter(tags=["health"])

_checks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[dict[str, str]]] = WeakKeyDictionary()


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
@request_limits(RequestLimits(WorkKind.NONE))
async def get_health() -> dict[str, str]:
    """Report that this process is alive. No other service is checked."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"description": "A service that orders need is unavailable."}})
@request_limits(RequestLimits(WorkKind.NONE))
async def get_readiness(response: Response) -> dict[str, Any]:
    """Report whether orders can be accepted: database and storage must respond; Redis may be down."""
    # Whoever asks while a check is running waits for that one: anybody may ask, and each check occupies a thread.
    loop = asyncio.get_running_loop()
    check = _checks.get(loop)
    if check is None or check.done():
        check = _checks[loop] = loop.create_task(asyncio.to_thread(_check_parts))
    parts = await asyncio.shield(check)
    is_ready = parts["database"] == "ok" and parts["storage"] == "ok"
    if not is_ready:
        response.status_code = 503
    return {"status": "ok" if is_ready else "unavailable", "parts": parts}


def _check_parts() -> dict[str, str]:
    return {
        "database": _status_of(_check_database),
        "redis": _status_of(_check_redis),
        "storage": _status_of(_check_storage),
    }


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
