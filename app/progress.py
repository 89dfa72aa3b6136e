"""Live progress: small messages over Redis pub/sub. The job's row is the fallback, so a lost message costs nothing."""

import asyncio
import base64
import json
import logging
from collections.abc import Callable, Collection
from typing import Any

from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from app.db import after_commit
from app.redis_client import get_redis, is_redis_down, mark_redis_down
from app.settings import get_settings

log = logging.getLogger(__name__)

_PREFIX = "cinemeter:progress:"
# How soon a listener subscribes to another job; updates in between are read from the row.
_LISTEN_SECONDS = 0.25
# Pause before a listener reconnects to a Redis that is down.
_RECONNECT_SECONDS = 1.0
# A listener pings so often, and treats a connection as dead that was silent for so long: a connection that was dropped
# on its way (a firewall, a machine that lost power) stays open on our side and is silent for ever.
_PING_SECONDS = 5.0
_SILENT_SECONDS = 15.0

Message = dict[str, Any]


def channel(job_id: str) -> str:
    """Return the pub/sub channel of a job."""
    return _PREFIX + job_id


def publish(job_id: str, message: Message, *, preview_jpeg: bytes | None = None) -> bool:
    """Publish a message to the job's viewers. Returns False, and only logs, while Redis is down."""
    if is_redis_down():
        return False
    if preview_jpeg is not None:
        message = {**message, "preview": "data:image/jpeg;base64," + base64.b64encode(preview_jpeg).decode()}
    try:
        get_redis().publish(channel(job_id), json.dumps(message))
    except RedisError as error:
        mark_redis_down()
        log.debug("Progress of %s was not published: %s", job_id, error)
        return False
    return True


def publish_after_commit(session: Session, job_id: str, message: Message) -> None:
    """Publish a message after this transaction commits; never after a rollback."""
    after_commit(session, lambda: publish(job_id, message))


async def listen(job_ids: Callable[[], Collection[str]], receive: Callable[[str, Message], None]) -> None:
    """Call `receive(job_id, message)` for each message of the jobs in `job_ids()`, until this task is cancelled.

    One connection serves all jobs. While Redis is down it reconnects every second; nothing is raised.
    """
    while True:
        _end_if_cancelled()
        if not job_ids():
            await asyncio.sleep(_LISTEN_SECONDS)
            continue
        try:
            await _listen_once(job_ids, receive)
        except (RedisError, OSError) as error:
            log.warning("Live progress is read from the rows while Redis is down: %s", error)
            await asyncio.sleep(_RECONNECT_SECONDS)


async def _listen_once(job_ids: Callable[[], Collection[str]], receive: Callable[[str, Message], None]) -> None:
    """Listen over one connection while `job_ids()` has any. Raises RedisError or OSError when it breaks."""
    redis = AsyncRedis.from_url(get_settings().redis_url, socket_timeout=5, socket_connect_timeout=2)
    clock = asyncio.get_running_loop().time
    async with redis, redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        pinged_at = heard_at = clock()
        while jobs := set(job_ids()):
            await _subscribe(pubsub, {channel(job_id) for job_id in jobs})
            if clock() - pinged_at > _PING_SECONDS:
                pinged_at = clock()
                await pubsub.ping()
            _end_if_cancelled()
            message = await pubsub.get_message(timeout=_LISTEN_SECONDS)
            while message is not None:
                heard_at = clock()
                if message["type"] == "message":
                    _receive_one(message, receive)
                message = await pubsub.get_message(timeout=0)
            if clock() - heard_at > _SILENT_SECONDS:
                raise RedisConnectionError(f"no answer for {_SILENT_SECONDS:g} s")


def _end_if_cancelled() -> None:
    """Raise CancelledError in a task that was cancelled and has not noticed.

    redis-py sends each command within `asyncio.wait_for`. Before Python 3.12 that returns as if nothing had happened
    when the task is cancelled in the very turn of the event loop in which the bytes went out.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _subscribe(pubsub: PubSub, names: set[str]) -> None:
    """Change the connection's subscriptions to exactly these channels."""
    subscribed = {name.decode() if isinstance(name, bytes) else str(name) for name in pubsub.channels}
    if names - subscribed:
        await pubsub.subscribe(*(names - subscribed))
    if subscribed - names:
        await pubsub.unsubscribe(*(subscribed - names))


def _receive_one(message: dict[str, Any], receive: Callable[[str, Message], None]) -> None:
    try:
        content = json.loads(message["data"])
    except ValueError:
        log.warning("A progress message on %s is not JSON and is dropped.", message["channel"])
        return
    receive(message["channel"].decode().removeprefix(_PREFIX), content)
