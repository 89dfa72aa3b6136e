"""Key routes for customers: a key can read itself and replace itself, but no other key."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.accounts import keys
from app.accounts.caller import Caller, require_active
from app.accounts.tables import Account, ApiKey
from app.admin.accounts import record_rotation
from app.api.access import AnyCaller
from app.audit_log.actor import Actor
from app.clock import now
from app.errors import not_found
from app.request_session import SessionDep
from app.roles import Scope
from pricing.money import Money

router = APIRouter(prefix="/v1/keys", tags=["keys"])

SELF = "self"
OVERLAP_HOURS_MAX = 72

KeyId = Annotated[str, Path(max_length=64, description="`self`, or the id of the calling key.")]


class KeyOut(BaseModel):
    """An API key. The secret is only in the response that creates it."""

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
    """How long the old key stays valid beside the new one."""

    model_config = ConfigDict(extra="forbid")

    overlap_hours: int = Field(24, ge=0, le=OVERLAP_HOURS_MAX, description="0 revokes the old key immediately.")


def show_key(session: Session, account: Account, key: ApiKey, secret: str | None = None) -> KeyOut:
    """Return the public form of a key. Money is a decimal string in the account's currency."""
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
    """Return the calling key: its permissions, its limits, and when it expires."""
    return show_key(session, caller.account, keys.get_key(session, caller.account_id, _own(caller, key_id)))


@router.post("/{key_id}/rotate")
def rotate_key(session: SessionDep, caller: AnyCaller, key_id: KeyId, body: Rotation) -> KeyOut:
    """Replace the calling key by a new one with the same permissions, limits and budget.

    The new secret is only in this response. The old key stays valid for the overlap. A key can be replaced once; if
    the response was lost, an owner creates another key on the account's Keys page.
    """
    require_active(caller)
    old = _own(caller, key_id)
    overlap = timedelta(hours=body.overlap_hours)
    fresh, secret = keys.rotate_key(session, caller.account_id, old, overlap=overlap, giver=caller)
    if Scope.ADMIN in fresh.scopes:
        # Changes of admin keys are recorded in the audit log.
        record_rotation(session, Actor.of(caller), fresh, old)
    return show_key(session, caller.account, fresh, secret)


def _own(caller: Caller, key_id: str) -> str:
    """Return the id of the caller's own key. Raises AppError `not_found` for any other key, even of the same account.

    A key that could replace others would receive their secrets, and with them permissions, a project or a budget that
    it does not have.
    """
    if caller.key_id is None or key_id not in (SELF, caller.key_id):
        raise not_found("key", key_id)
    return caller.key_id
