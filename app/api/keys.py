"""Routes of keys for those who use them: a key can look at itself and replace itself, and touches no other."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.accounts import keys
from app.accounts.caller import Caller, require_active
from app.accounts.tables import Account, ApiKey
from app.admin.accounts import record_rotation
from app.api.access import AnyCaller, SessionDep
from app.audit_log.actor import Actor
from app.clock import now
from app.errors import not_found
from app.roles import Scope
from pricing.money import Money

router = APIRouter(prefix="/v1/keys", tags=["keys"])

SELF = "self"
OVERLAP_HOURS_MAX = 72

KeyId = Annotated[str, Path(max_length=64, description="`self`, or the id of the key that asks.")]


class KeyOut(BaseModel):
    """A key; the key itself only in the answer that makes it."""

    id: str
    object: Literal["key"] = "key"
    name: str
    last4: str
    scopes: list[str]
    roles: list[str]
    test: bool
    project: str | None
    live: bool
    budget_total: str | None
    job_cap: str | None
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: str | None
    created_at: datetime
    secret: str | None = None


class Rotation(BaseModel):
    """How long the old key works on beside the new one."""

    model_config = ConfigDict(extra="forbid")

    overlap_hours: int = Field(24, ge=0, le=OVERLAP_HOURS_MAX, description="0 ends the old key at once.")


def show_key(session: Session, account: Account, key: ApiKey, secret: str | None = None) -> KeyOut:
    """Return a key as the doors show it; money is a decimal string in the account's currency."""
    caps = {name: getattr(key, name) for name in ("budget_total", "job_cap")}
    moments = ("last_used_at", "expires_at", "revoked_at", "created_at")
    names = ("id", "name", "last4", "scopes", "roles", "test", "replaced_by", *moments)
    return KeyOut(
        **{name: getattr(key, name) for name in names},
        **{name: None if cap is None else Money(cap, account.currency).text for name, cap in caps.items()},
        project=key.project_id,
        live=keys.is_live(key, now(session)),
        secret=secret,
    )


@router.get("/{key_id}")
def get_key(session: SessionDep, caller: AnyCaller, key_id: KeyId) -> KeyOut:
    """Return the key that asks: what it may do, its limits, and when it ends."""
    return show_key(session, caller.account, keys.get_key(session, caller.account_id, _own(caller, key_id)))


@router.post("/{key_id}/rotate")
def rotate_key(session: SessionDep, caller: AnyCaller, key_id: KeyId, body: Rotation) -> KeyOut:
    """Replace the key that asks by a new one with the same rights, limits and budget, which is in this answer only.

    The old key works on for the overlap. A key is replaced once: where the answer was lost, an owner makes another on
    the account's page of keys.
    """
    require_active(caller)
    old = _own(caller, key_id)
    overlap = timedelta(hours=body.overlap_hours)
    fresh, secret = keys.rotate_key(session, caller.account_id, old, overlap=overlap, giver=caller)
    if Scope.ADMIN in fresh.scopes:
        # Whoever runs the service is accountable for the keys that do.
        record_rotation(session, Actor.of(caller), fresh, old)
    return show_key(session, caller.account, fresh, secret)


def _own(caller: Caller, key_id: str) -> str:
    """Return the id of the caller's own key. Another one, of the same account too, raises `not_found`.

    A key that could replace others would be handed their secrets, with rights, a project or a budget that it has not.
    """
    if caller.key_id is None or key_id not in (SELF, caller.key_id):
        raise not_found("key", key_id)
    return caller.key_id
