"""Who holds an API key, read by one statement: for frequent reads, which need no more of the account than its id."""

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from app.accounts.caller import Caller
from app.accounts.key_format import hash_key, parse_key_id
from app.accounts.keys import USE_RECORDED_EVERY, is_live, unauthenticated
from app.settings import get_settings
from app.sql_statements import sql_file

_KEY = sql_file("app.accounts", "key_holder.sql")
_USED = sql_file("app.accounts", "key_used.sql")


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whose jobs a key may read: those of its account, of its test or live side, and of its project if it has one."""

    account_id: str
    test: bool
    project_id: str | None
    scopes: frozenset[str]
    roles: frozenset[str]


def holder_of(caller: Caller) -> KeyHolder:
    """Return what a caller may read."""
    return KeyHolder(caller.account_id, caller.test, caller.project_id, caller.scopes, caller.roles)


def read_key_holder(connection: Connection, secret: str) -> KeyHolder:
    """Return the holder of a key, by the rules of `authenticate`; its use is recorded once a minute.

    `connection` commits each statement. Raises AppError `unauthenticated`.
    """
    keyid = parse_key_id(secret)
    key = None if keyid is None else _KEY.run_on(connection, {"keyid": keyid}).one_or_none()
    if key is None or not hmac.compare_digest(key.secret_hash, hash_key(secret)):
        raise unauthenticated()
    moment: datetime = key.moment + timedelta(seconds=get_settings().clock_offset_seconds)
    if not is_live(key, moment):
        raise unauthenticated()
    before = moment - USE_RECORDED_EVERY
    if key.last_used_at is None or key.last_used_at <= before:
        _USED.run_on(connection, {"key_id": key.id, "before": before, "moment": moment})
    return KeyHolder(key.account_id, key.test, key.project_id, frozenset(key.scopes), frozenset(key.roles))
