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
from app.redis_client import get_redis, is_redis_away, redis_went_away
from app.settings import get_settings

log = logging.getLogger(__name__)

_PREFIX = "cinemeter:progress:"
# How soon a listener notices that it is to listen for another job; what is told in between is read from the row.
_LISTEN_SECONDS = 0.25
# How long a listener waits before it tries a Redis that is away again.
_AWAY_SECONDS = 1.0
# A listener asks for a sign of life so often, and takes a line that gave none for so long for dead: a connection that
# was dropped on its way (a firewall, a machine that lost power) stays open on our side and says nothing for ever.
_PING_SECONDS = 5.0
_SILENT_SECONDS = 15.0

Message = dict[str, Any]


def channel(job_id: str) -> str:
    """Return the pub/sub channel of a job."""
    return _PREFIX + job_id


def publish(job_id: str, message: Message, *, preview_jpeg: bytes | None = None) -> bool:
    """Tell whoever watches the job what just happened. Returns False, and only logs, when Redis is away."""
    if is_redis_away():
        return False
    if preview_jpeg is not None:
        message = {**message, "preview": "data:image/jpeg;base64," + base64.b64encode(preview_jpeg).decode()}
    try:
        get_redis().publish(channel(job_id), json.dumps(message))
    except RedisError as error:
        redis_went_away()
        log.debug("Progress of %s was not published: %s", job_id, error)
        return False
    return True


def publish_after_commit(session: Session, job_id: str, message: Message) -> None:
    """Publish a message once this transaction has committed; nothing is told of what was rolled back."""
    after_commit(session, lambda: publish(job_id, message))


async def listen(wanted: Callable[[], Collection[str]], hear: Callable[[str, Message], None]) -> None:
    """Call `hear(job_id, message)` for each message of the jobs in `wanted()`, until this task is cancelled.

    One connection serves all jobs. While Redis is away it is tried again every second; nothing is raised.
    """
    while True:
        _end_if_cancelled()
        if not wanted():
            await asyncio.sleep(_LISTEN_SECONDS)
            continue
        try:
            await _listen_once(wanted, hear)
        except (RedisError, OSError) as error:
            log.warning("Live progress is read from the rows while Redis is away: %s", error)
            await asyncio.sleep(_AWAY_SECONDS)


async def _listen_once(wanted: Callable[[], Collection[str]], hear: Callable[[str, Message], None]) -> None:
    """Listen over one connection until nothing is wanted any more. Raises RedisError or OSError when it breaks."""
    redis = AsyncRedis.from_url(get_settings().redis_url, socket_timeout=5, socket_connect_timeout=2)
    clock = asyncio.get_running_loop().time
    async with redis, redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        asked = heard = clock()
        while jobs := set(wanted()):
            await _subscribe(pubsub, {channel(job_id) for job_id in jobs})
            if clock() - asked > _PING_SECONDS:
                asked = clock()
                await pubsub.ping()
            _end_if_cancelled()
            message = await pubsub.get_message(timeout=_LISTEN_SECONDS)
            while message is not None:
                heard = clock()
                if message["type"] == "message":
                    _hear_one(message, hear)
                message = await pubsub.get_message(timeout=0)
            if clock() - heard > _SILENT_SECONDS:
                raise RedisConnectionError(f"it has said nothing for {_SILENT_SECONDS:g} s")


def _end_if_cancelled() -> None:
    """Raise CancelledError in a task that was cancelled and has not noticed.

    redis-py sends each command within `asyncio.wait_for`. Before Python 3.12 that returns as if nothing had happened
    when the task is cancelled in the very turn of the event loop in which the bytes went out.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _subscribe(pubsub: PubSub, names: set[str]) -> None:
    """Bring the connection's subscriptions to exactly these channels."""
    held = {name.decode() if isinstance(name, bytes) else str(name) for name in pubsub.channels}
    if names - held:
        await pubsub.subscribe(*(names - held))
    if held - names:
        await pubsub.unsubscribe(*(held - names))


def _hear_one(message: dict[str, Any], hear: Callable[[str, Message], None]) -> None:
    try:
        told = json.loads(message["data"])
    except ValueError:
        log.warning("A progress message on %s is not JSON and is left out.", message["channel"])
        return
    hear(message["channel"].decode().removeprefix(_PREFIX), told)
