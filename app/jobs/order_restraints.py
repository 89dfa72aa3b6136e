"""Take orders of whoever repeats refused ones more slowly, or not at all."""

import time

from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.moderation.repeaters import Restraint, restraint_of, scope_of, stopped_error

# As the limits of a membership, restraints are not read at every order; `submit` reads once more whether they stop it.
_CACHE_SECONDS = 10.0
_CACHE_MAX = 10_000
_cache: dict[tuple[str, str, bool], tuple[float, Restraint]] = {}


def restraint(session: Session, caller: Caller) -> Restraint:
    """Return what holds for a caller's orders. Raises AppError `orders_stopped`."""
    key = _key(caller)
    expires_at, known = _cache.get(key, (0.0, Restraint()))
    if expires_at <= time.monotonic():
        known = restraint_of(session, caller.account_id, scope=key[1], test=caller.test)
        if len(_cache) > _CACHE_MAX:
            _cache.clear()
        _cache[key] = (time.monotonic() + _CACHE_SECONDS, known)
    if known.is_stopped:
        raise stopped_error()
    return known


def forget_restraint(caller: Caller) -> None:
    """Read a caller's restraint anew with the next order: one more was refused."""
    _cache.pop(_key(caller), None)


def _key(caller: Caller) -> tuple[str, str, bool]:
    return caller.account_id, scope_of(caller.project_id), caller.test
