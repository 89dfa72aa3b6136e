"""Slow password guessing down: tries are counted in Redis by address and machine, and each further one waits.

Nobody is locked out. Counters hold for one machine: guesses from elsewhere cannot keep the right password out. A
browser that has signed in before is a machine of its own (`device cookie`), so guesses by others behind the same
network address cannot either. After the free tries, the tries of a machine are answered one after another, each after
a pause; one that would have to wait for too long is refused, and may be repeated.

Each change is one Lua script, so that a counter never exists without an expiry: a process that dies between an INCR and
an EXPIRE would slow its subject down for good.
"""

import hashlib
import logging
from typing import cast

from redis.exceptions import RedisError

from app.errors import AppError
from app.metrics import SIGN_INS
from app.redis_client import get_redis

log = logging.getLogger(__name__)

# Tries without a pause in one window: of one machine for one address, and of one machine for all addresses.
FREE_TRIES = 5
FREE_TRIES_OF_MACHINE = 20
WINDOW_SECONDS = 900
# The first pause in seconds; each further try doubles it, up to the longest.
PAUSE_SECONDS = 1.0
PAUSE_SECONDS_MAX = 8.0
# A try that would have to wait for longer than this is refused.
WAIT_SECONDS_MAX = 16.0
# Tries in one window of what is not queued but refused: to open an account, and to give the old password for a new one.
TRIES_MAX = 10

# Counts the try at both counters and returns how long it has to wait, in milliseconds. A try that is refused is not
# counted and takes no turn; the answer is then negative. Time is that of Redis, so that all processes share one queue.
_ADMIT = """
local function count(key)
  local tries = redis.call('INCR', key)
  if redis.call('TTL', key) < 0 then redis.call('EXPIRE', key, ARGV[1]) end
  return tries
end
local over_pair = count(KEYS[1]) - tonumber(ARGV[2])
local over_machine = count(KEYS[2]) - tonumber(ARGV[3])
if over_pair <= 0 and over_machine <= 0 then return 0 end
local queue = KEYS[3]
if over_machine > 0 then queue = KEYS[4] end
local pause = math.min(tonumber(ARGV[4]) * 2 ^ (math.max(over_pair, over_machine) - 1), tonumber(ARGV[5]))
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local turn = math.max(now, tonumber(redis.call('GET', queue) or '0')) + pause
if turn - now > tonumber(ARGV[6]) then
  redis.call('DECR', KEYS[1])
  redis.call('DECR', KEYS[2])
  return math.floor(now - turn)
end
redis.call('SET', queue, string.format('%.0f', turn), 'PX', string.format('%.0f', turn - now + 1000))
return math.floor(turn - now)
"""
_COUNT = """
local tries = redis.call('INCR', KEYS[1])
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {tries, redis.call('TTL', KEYS[1])}
"""
_RETURN = """
redis.call('DEL', KEYS[1])
local tries = tonumber(redis.call('GET', KEYS[2]) or '0')
if tries <= 1 then return redis.call('DEL', KEYS[2]) end
redis.call('DECR', KEYS[2])
if redis.call('TTL', KEYS[2]) < 0 then redis.call('EXPIRE', KEYS[2], ARGV[1]) end
return tries - 1
"""


def admit_try(email: str, machine: str) -> float:
    """Count a try to sign in, and return the seconds that it must wait before the password is looked at.

    The try is counted first, so that concurrent guesses are counted too; `forget_try` gives it back. Raises AppError
    `rate_limited` where the wait would be too long. While Redis is unavailable nothing waits: the slow password hash
    still bounds guessing, and people can sign in.
    """
    keys = _keys(email, machine)
    limits = (
        FREE_TRIES,
        FREE_TRIES_OF_MACHINE,
        1000 * PAUSE_SECONDS,
        1000 * PAUSE_SECONDS_MAX,
        1000 * WAIT_SECONDS_MAX,
    )
    queues = (f"{keys[0]}:turn", f"{keys[1]}:turn")
    try:
        wait = cast("int", get_redis().eval(_ADMIT, 4, *keys, *queues, WINDOW_SECONDS, *limits)) / 1000
    except RedisError as error:
        log.warning("Sign-in tries are not counted, Redis is unavailable: %s", error)
        return 0.0
    if wait < 0:
        SIGN_INS.labels("refused").inc()
        seconds = int(-wait) + 1
        message = f"Too many tries from this network. Wait {seconds} seconds and try again."
        raise AppError("rate_limited", message, retry_after=seconds)
    if wait > 0:
        SIGN_INS.labels("slowed").inc()
    return wait


def forget_try(email: str, machine: str) -> None:
    """Give back the try of a successful sign-in, and forget the earlier ones for this address on this machine.

    Failed tries of the machine for other addresses stay counted.
    """
    try:
        get_redis().eval(_RETURN, 2, *_keys(email, machine), WINDOW_SECONDS)
    except RedisError as error:
        log.warning("A sign-in try is not given back, Redis is unavailable: %s", error)


def limit_tries(subject: str, *, tries_max: int = TRIES_MAX) -> None:
    """Count a try for a subject. Raises AppError `rate_limited` after `tries_max` tries in a window.

    The subject must be one that others cannot use up: the machine of a stranger, or an open session.
    """
    try:
        tries, wait = cast("list[int]", get_redis().eval(_COUNT, 1, _key(subject), WINDOW_SECONDS))
    except RedisError as error:
        log.warning("Tries are not counted, Redis is unavailable: %s", error)
        return
    if tries > tries_max:
        wait = max(1, wait)
        message = f"Too many tries. Wait {wait // 60 + 1} minutes and try again."
        raise AppError("rate_limited", message, retry_after=wait)


def _keys(email: str, machine: str) -> tuple[str, str]:
    """Return the counters of a machine's tries for one address, and of all of its tries."""
    return _key(f"member:{email} {machine}"), _key(machine)


def _key(subject: str) -> str:
    return "cinemeter:sign-in:" + hashlib.sha256(subject.encode()).hexdigest()[:24]
