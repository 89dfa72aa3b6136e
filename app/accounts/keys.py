"""API keys: issue, authenticate, rotate with an overlap, revoke. Only a hash is kept; the key itself is shown once."""

import hmac
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.caller import Caller
from app.accounts.key_format import hash_key, new_key, parse_key_id
from app.accounts.projects import get_project
from app.accounts.tables import Account, ApiKey
from app.clock import clock_inputs, now, remember_now
from app.db import new_id
from app.errors import AppError, not_found
from app.roles import RoleHolder, Scope, read_roles, read_scopes, require_may_grant
from app.sql_statements import loaded, sql_file
from pricing.money import require_integer

# Without a minimum interval a busy key would write its row at every request.
USE_RECORDED_EVERY = timedelta(minutes=1)

_AUTHENTICATE = sql_file("app.accounts", "authenticate.sql")
# Without the salt, which only seals and erasures read.
_ACCOUNT_COLUMNS = tuple(each.name for each in Account.__table__.columns if each.name != "salt")


def issue_key(
    session: Session,
    account_id: str,
    *,
    scopes: Iterable[str],
    name: str = "",
    test: bool = False,
    project_id: str | None = None,
    roles: Iterable[str] = (),
    member_id: str | None = None,
    issued_by: str | None = None,
    expires_at: datetime | None = None,
    budget_total: int | None = None,
    job_cap: int | None = None,
    giver: RoleHolder | None = None,
) -> tuple[ApiKey, str]:
    """Make a key and return it with its secret, which is not kept and cannot be shown again.

    `account_id`: whose key it is. `scopes`: what it may be used for. `name`: what people call it. `test`: true for a
    key that renders colour bars and costs nothing. `project_id`: the project that its jobs belong to, if any. `roles`:
    admin roles, only beside the scope `admin`. `member_id`: the person who makes it and answers for it. `issued_by`:
    the person who gives it out, where it carries roles: what is done with it counts as theirs. `expires_at`: when it
    stops working, if ever. `budget_total`: what its jobs may cost in its whole life, in minor units. `job_cap`: what
    one job may cost, in minor units. `giver`: who hands it out; they need every scope and role that they give. None is
    the system itself.

    Raises AppError `invalid_request`, `forbidden`, `not_found`.
    """
    account = get_account(session, account_id)
    wanted, carried = read_scopes(scopes), read_roles(roles)
    require_may_grant(giver, wanted, carried)
    _check(session, account, wanted, carried, test=test, expires_at=expires_at)
    for field, budget in (("budget_total", budget_total), ("job_cap", job_cap)):
        if budget is not None and require_integer(budget, field, least=None) < 0:
            raise AppError("invalid_request", "A budget is 0 or more minor units.", field=field)
    parsed, key_id = new_key(test=test), new_id("key")
    key = ApiKey(
        id=key_id,
        account_id=account_id,
        project_id=None if project_id is None else get_project(session, account_id, project_id).id,
        member_id=member_id,
        issued_by=issued_by,
        name=name,
        keyid=parsed.keyid,
        secret_hash=parsed.hash,
        last4=parsed.last4,
        scopes=wanted,
        roles=carried,
        test=test,
        budget_total=budget_total,
        job_cap=job_cap,
        lineage=key_id,
        expires_at=expires_at,
        created_at=now(session),
    )
    session.add(key)
    session.flush()
    return key, parsed.secret


def authenticate(session: Session, secret: str) -> Caller:
    """Return who a key belongs to.

    A suspended account still authenticates, so that it can read what it paid for; operations that make new work call
    `require_active`.

    Raises AppError `unauthenticated`; the answer is the same for a key that never was and one that no longer is.
    """
    refused = unauthenticated()
    keyid = parse_key_id(secret)
    if keyid is None:
        raise refused
    row = _AUTHENTICATE.run(session, {"keyid": keyid, **clock_inputs(session)}).one_or_none()
    if row is None:
        raise refused
    remember_now(session, row.now)
    if not hmac.compare_digest(row.secret_hash, hash_key(secret)) or not is_live(row, now(session)):
        raise refused
    _record_use(session, row.key_id, row.last_used_at)
    return Caller(
        account=loaded(session, Account, **{name: getattr(row, name) for name in _ACCOUNT_COLUMNS}),
        scopes=frozenset(row.scopes),
        roles=frozenset(row.roles),
        test=row.key_test,
        project_id=row.project_id,
        key_id=row.key_id,
        member_id=row.member_id,
        issued_by=row.issued_by,
    )


def unauthenticated() -> AppError:
    """Return the one error of all keys that do not work."""
    return AppError("unauthenticated", "The API key is missing, unknown, expired or revoked.")


class KeyPeriod(Protocol):
    """When a key stops working: once it is revoked, and when it expires."""

    @property
    def revoked_at(self) -> datetime | None: ...
    @property
    def expires_at(self) -> datetime | None: ...


def is_live(key: KeyPeriod, at: datetime) -> bool:
    """Say whether a key works at a moment: neither revoked nor expired."""
    return (key.revoked_at is None or key.revoked_at > at) and (key.expires_at is None or key.expires_at > at)


def get_key(session: Session, account_id: str, key_id: str) -> ApiKey:
    """Return a key of this account. Raises `not_found`, for another account's key too."""
    key = session.get(ApiKey, key_id)
    if key is None or key.account_id != account_id:
        raise not_found("key", key_id)
    return key


def list_keys(session: Session, account_id: str) -> list[ApiKey]:
    """Return all keys of an account, newest first, those that no longer work too."""
    query = select(ApiKey).where(ApiKey.account_id == account_id)
    return list(session.scalars(query.order_by(ApiKey.created_at.desc(), ApiKey.id)))


def rotate_key(
    session: Session, account_id: str, key_id: str, *, overlap: timedelta, giver: RoleHolder | None = None
) -> tuple[ApiKey, str]:
    """Replace a key by a new one with the same rights and the same budget; the old one works on for the overlap.

    Raises AppError `not_found`; `conflict` if the key no longer works or was replaced before; `forbidden`.
    """
    old = session.get(ApiKey, key_id, with_for_update=True)
    if old is None or old.account_id != account_id:
        raise not_found("key", key_id)
    moment = now(session)
    if not is_live(old, moment) or old.replaced_by is not None:
        raise AppError("conflict", "The key no longer works, or has been replaced.", id=key_id)
    require_may_grant(giver, old.scopes, old.roles)
    fresh, secret = issue_key(
        session,
        account_id,
        scopes=old.scopes,
        name=old.name,
        test=old.test,
        project_id=old.project_id,
        roles=old.roles,
        member_id=old.member_id,
        issued_by=old.issued_by,
        expires_at=old.expires_at,
        budget_total=old.budget_total,
        job_cap=old.job_cap,
    )
    fresh.lineage = old.lineage
    last_moment = moment + max(overlap, timedelta(0))
    old.expires_at = last_moment if old.expires_at is None else min(old.expires_at, last_moment)
    old.replaced_by = fresh.id
    session.flush()
    return fresh, secret


def revoke_key(session: Session, account_id: str, key_id: str) -> ApiKey:
    """End a key at once. Idempotent. Raises `not_found`."""
    key = get_key(session, account_id, key_id)
    if key.revoked_at is None:
        key.revoked_at = now(session)
        session.flush()
    return key


def revoke_lineage(session: Session, account_id: str, key_id: str) -> None:
    """End a key and every key that was made in its place, at once: whoever holds a key can replace it.

    Raises `not_found`.
    """
    following: str | None = key_id
    while following is not None:
        following = revoke_key(session, account_id, following).replaced_by


def _check(
    session: Session, account: Account, scopes: list[str], roles: list[str], *, test: bool, expires_at: datetime | None
) -> None:
    if not scopes:
        raise AppError("invalid_request", "A key needs at least one scope.", field="scopes", allowed=list(Scope))
    if roles and Scope.ADMIN not in scopes:
        raise AppError("invalid_request", "Roles need the scope admin beside them.", field="roles")
    if account.test and not test:
        raise AppError("invalid_request", "A test account has test keys only.", field="test")
    if test and Scope.ADMIN in scopes:
        raise AppError("invalid_request", "A test key cannot run the service.", field="scopes")
    if expires_at is not None and expires_at <= now(session):
        raise AppError("invalid_request", "The key would have expired already.", field="expires_at")


def _record_use(session: Session, key_id: str, last_used_at: datetime | None) -> None:
    moment = now(session)
    if last_used_at is not None and moment - last_used_at < USE_RECORDED_EVERY:
        return
    # Requests of one key come in parallel: a request that finds the row locked leaves the update to the other.
    free = (
        select(ApiKey.id)
        .where(ApiKey.id == key_id)
        .where(or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= moment - USE_RECORDED_EVERY))
        .with_for_update(skip_locked=True, key_share=True)
        .scalar_subquery()
    )
    session.execute(
        update(ApiKey).where(ApiKey.id == free).values(last_used_at=moment).execution_options(synchronize_session=False)
    )
