"""Wake-ups: Celery messages that say "pool X has work". Lost, late, doubled or reordered, they are harmless."""

import logging
from functools import lru_cache
from typing import Any

from celery import Celery
from kombu.entity import Queue
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from app.db import after_commit
from app.redis_client import TIMEOUT_SECONDS, get_redis, is_redis_down, mark_redis_down
from app.settings import get_settings

log = logging.getLogger(__name__)

WAKEUP_TASK = "cinemeter.answer"  # unchanged for rolling upgrades: older workers and senders use this name
KEY_PREFIX = "cinemeter:"


def queue_name(pool: str) -> str:
    """Return the Celery queue of a pool."""
    return f"pool.{pool}"


def celery_settings() -> dict[str, Any]:
    """Return the Celery settings of senders and workers; deploy/decisions/0003 gives the reason for each."""
    return {
        "task_acks_late": False,
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": 1,
        "worker_pool": "prefork",
        "worker_pool_start_method": "spawn",
        "worker_proc_alive_timeout": 1800,
        "task_ignore_result": True,
        "result_backend": None,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_pool_acquire_timeout": 10,
        "task_publish_retry": False,
        "task_create_missing_queues": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "worker_hijack_root_logger": False,
        "worker_send_task_events": False,
        "task_default_queue": queue_name("none"),
        "broker_transport_options": {
            "visibility_timeout": 3600,
            "socket_timeout": 10,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "priority_steps": list(range(10)),
            "sep": ":",
            "queue_order_strategy": "priority",
            "global_keyprefix": KEY_PREFIX,
        },
    }


def make_celery(pools: list[str]) -> Celery:
    """Return a Celery application that knows the queues of these pools."""
    celery = Celery("cinemeter", broker=get_settings().redis_url)
    celery.conf.update(celery_settings())
    celery.conf.task_queues = [Queue(queue_name(pool), routing_key=queue_name(pool)) for pool in [*pools, "none"]]
    return celery


@lru_cache(maxsize=64)
def _sender(pool: str) -> Celery:
    celery = make_celery([pool])
    # A worker waits long for its next wake-up; a sender must not wait.
    options = celery.conf.broker_transport_options
    celery.conf.broker_transport_options = {**options, "socket_timeout": TIMEOUT_SECONDS}
    return celery


def send_wakeup(pool: str) -> bool:
    """Send one wake-up to the pool. Returns whether the broker accepted it; if not, the scheduler sends another."""
    if is_redis_down():
        return False
    try:
        _sender(pool).send_task(WAKEUP_TASK, kwargs={"pool": pool}, queue=queue_name(pool), retry=False)
    except Exception as error:  # noqa: BLE001 — kombu raises many kinds; only the row counts.
        mark_redis_down()
        log.warning("No wake-up could be sent to pool %s: %s", pool, error)
        return False
    return True


def wakeups_waiting(pool: str) -> int | None:
    """Return how many unanswered wake-ups are in the pool's queue, or None while Redis is down."""
    if is_redis_down():
        return None
    try:
        return int(get_redis().llen(f"{KEY_PREFIX}{queue_name(pool)}"))  # type: ignore[arg-type]
    except (RedisError, ValueError) as error:
        mark_redis_down()
        log.warning("The queue of pool %s could not be read: %s", pool, error)
        return None


def wake_after_commit(session: Session, pool: str) -> None:
    """Send a wake-up to the pool after this transaction commits; never for work that was rolled back.

    While an unanswered wake-up is queued no second one is sent: no worker is idle, and each that becomes idle claims
    by itself. A simulation answers wake-ups itself, by a function of the pool at `session.info['wake']`.
    """
    wake = session.info.get("wake", _wake_silent_pool)
    after_commit(session, lambda: wake(pool), name=f"wake {pool}")


def _wake_silent_pool(pool: str) -> None:
    if wakeups_waiting(pool) == 0:
        send_wakeup(pool)
