"""Liveness and readiness checks for load balancers and operators."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import text

from app.catalog.models import load_catalog
from app.catalog.pools import UNKNOWN_POOL, PoolPlan, load_pools
from app.db import get_engine, transaction
from app.dispatch.worker_registry import live_workers
from app.jobs.plan import FINISH_POOL
from app.migrations.revisions import lacks_revisions
from app.redis_client import get_redis
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.settings import get_settings
from app.storage import get_storage

router = APIRouter(tags=["health"])

# What does not decide readiness is waited for so long; a store that hangs must not make the answer late.
PATIENCE_SECONDS = 1.0
NO_ANSWER = "no answer"

_checks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Task[Any]]] = WeakKeyDictionary()


class SchemaTooOld(Exception):
    """The database lacks revisions of this release: `cinemeter migrate` has not run."""


class ReadinessOut(BaseModel):
    """Whether this process can answer, and what else an operator wants to know.

    `parts` is `ok` or the reason for each part; only `database` and `schema` decide the status. Of the pools of enabled
    models, and of the one that finishes films, `pools_without_worker` lists those that no worker serves and for which
    nothing starts one: their films wait. `pools_asleep` lists those whose workers an autoscaler starts when a film is
    ordered, as pools.toml says (`workers_max`).
    """

    status: Literal["ok", "unavailable"]
    parts: dict[str, str]
    pools_without_worker: list[str] = []
    pools_asleep: list[str] = []


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
@request_limits(RequestLimits(WorkKind.NONE))
async def get_health() -> dict[str, str]:
    """Report that this process is alive. No other service is checked."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"model": ReadinessOut, "description": "Requests cannot be answered."}})
@request_limits(RequestLimits(WorkKind.NONE))
async def get_readiness(response: Response) -> ReadinessOut:
    """Report whether requests can be answered: the database responds and has the schema of this release.

    A load balancer keeps an API whose storage, Redis or workers are away: it still answers, and accepts orders.
    """
    required_check: asyncio.Task[ReadinessOut] = _shared("required", _check_required)
    redis, storage, required = await asyncio.gather(
        _within_patience(_shared("redis", lambda: _status_of(_check_redis))),
        _within_patience(_shared("storage", lambda: _status_of(_check_storage))),
        asyncio.shield(required_check),
    )
    if required.status != "ok":
        response.status_code = 503
    return required.model_copy(update={"parts": {**required.parts, "redis": redis, "storage": storage}})


def _shared(name: str, check: Callable[[], Any]) -> asyncio.Task[Any]:
    """Return the running check of this name, or begin one: anybody may ask, and each check occupies a thread."""
    checks = _checks.setdefault(asyncio.get_running_loop(), {})
    if name not in checks or checks[name].done():
        checks[name] = asyncio.get_running_loop().create_task(asyncio.to_thread(check))
    return checks[name]


async def _within_patience(check: asyncio.Task[str]) -> str:
    await asyncio.wait([check], timeout=PATIENCE_SECONDS)
    return check.result() if check.done() else NO_ANSWER


def _check_required() -> ReadinessOut:
    database = _status_of(_check_database)
    schema = _status_of(_check_schema) if database == "ok" else NO_ANSWER
    if schema != "ok":
        return ReadinessOut(status="unavailable", parts={"database": database, "schema": schema})
    unserved: dict[str, PoolPlan] = {}
    parts = {"database": "ok", "schema": "ok", "pools": _status_of(lambda: unserved.update(_unserved_pools()))}
    return ReadinessOut(
        status="ok",
        parts=parts,
        pools_without_worker=[pool for pool, plan in unserved.items() if not plan.startable()],
        pools_asleep=[pool for pool, plan in unserved.items() if plan.startable()],
    )


def _status_of(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:  # noqa: BLE001 — any failure is reported by the name of its class.
        return type(error).__name__
    return "ok"


def _check_database() -> None:
    with get_engine().connect() as connection:
        connection.execute(text("SELECT 1"))


def _check_schema() -> None:
    with get_engine().connect() as connection:
        if lacks_revisions(connection):
            raise SchemaTooOld


def _unserved_pools() -> dict[str, PoolPlan]:
    """Return the pools that have no worker now, in the order of their names, each with what is known of it."""
    folder = get_settings().catalog_dir
    plans = load_pools(folder)
    pools = {FINISH_POOL, *(model.pool for model in load_catalog(folder).values() if model.enabled)}
    with transaction() as session:
        return {pool: plans.get(pool, UNKNOWN_POOL) for pool in sorted(pools) if not live_workers(session, pool)}


def _check_redis() -> None:
    get_redis().ping()


def _check_storage() -> None:
    get_storage().stat("readyz")
