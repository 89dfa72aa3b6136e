"""Issue, rotate and look up signing secrets, without storing any.

A secret is HMAC-SHA256 with the service's secret over its row's unguessable id: 32 bytes that a copy of the database
does not contain. It is shown when it is issued and never again. Losing the service's secret loses these too: the
fingerprint then no longer matches, and deliveries wait instead of being sent with signatures that nobody can verify.
"""

import hashlib
import hmac
from collections.abc import Collection
from datetime import timedelta
from functools import lru_cache

from sqlalchemy import or_, select, text, update
from sqlalchemy.orm import Session

from app.clock import now
from app.db import new_id
from app.settings import get_settings
from app.webhooks.signing import format_secret
from app.webhooks.tables import EndpointKind, Secret

# A receiver that verifies tries each secret, so there are never many.
ACTIVE_MAX = 5

# An account and one of its endpoints, or an account and None for its callbacks.
Owner = tuple[str, str | None]


class SecretLostError(Exception):
    """The service's secret differs from the one that this webhook secret was derived from."""


def issue_secret(session: Session, account_id: str, endpoint_id: str | None, *, keep_old: timedelta) -> str:
    """Issue the new current secret of an endpoint, or of the account's callbacks (None), and return it, only once.

    The previous one stays valid for `keep_old`; those from earlier rotations keep their own expiry.
    """
    _lock_owner(session, account_id, endpoint_id)
    moment = now(session)
    owner = (Secret.account_id == account_id, Secret.endpoint_id.is_not_distinct_from(endpoint_id))
    session.execute(update(Secret).where(*owner, Secret.expires_at.is_(None)).values(expires_at=moment + keep_old))
    older = select(Secret.id).where(*owner, Secret.expires_at > moment).order_by(Secret.expires_at.desc())
    surplus = list(session.scalars(older.offset(ACTIVE_MAX - 1)))
    session.execute(update(Secret).where(Secret.id.in_(surplus)).values(expires_at=moment))
    identifier = new_id("whs")
    key = _derive(identifier)
    secret = format_secret(key)
    session.add(
        Secret(
            id=identifier,
            account_id=account_id,
            endpoint_id=endpoint_id,
            hint=f"whsec_…{secret[-4:]}",
            fingerprint=_fingerprint(key),
            created_at=moment,
        )
    )
    session.flush()
    return secret


def current_secret(session: Session, account_id: str, endpoint_id: str | None) -> Secret | None:
    """Return the row (hint, times) of the current secret of an endpoint, or of the account's callbacks (None)."""
    return session.scalar(
        select(Secret).where(
            Secret.account_id == account_id,
            Secret.endpoint_id.is_not_distinct_from(endpoint_id),
            Secret.expires_at.is_(None),
        )
    )


def ensure_callback_secret(session: Session, account_id: str) -> None:
    """Ensure that the account's callbacks can be signed. Customers see the secret only after a rotation."""
    if current_secret(session, account_id, None) is None:
        _lock_owner(session, account_id, None)
        if current_secret(session, account_id, None) is None:
            issue_secret(session, account_id, None, keep_old=timedelta(0))


def owner_of(kind: str, account_id: str, endpoint_id: str) -> Owner:
    """Return the owner of the secrets that sign for an endpoint: itself, or for a callback its account."""
    return account_id, None if kind == EndpointKind.CALLBACK else endpoint_id


def active_secrets(session: Session, owners: Collection[Owner]) -> dict[Owner, tuple[tuple[str, str], ...]]:
    """Return for each owner the (id, fingerprint) of its valid secrets, the current one first."""
    accounts = {account_id for account_id, endpoint_id in owners if endpoint_id is None}
    endpoints = {endpoint_id for _, endpoint_id in owners if endpoint_id is not None}
    rows = session.execute(
        select(Secret.account_id, Secret.endpoint_id, Secret.id, Secret.fingerprint)
        .where(
            or_(Secret.endpoint_id.in_(endpoints), Secret.endpoint_id.is_(None) & Secret.account_id.in_(accounts)),
            or_(Secret.expires_at.is_(None), Secret.expires_at > now(session)),
        )
        .order_by(Secret.expires_at.is_(None).desc(), Secret.created_at.desc(), Secret.id)
    )
    secrets: dict[Owner, tuple[tuple[str, str], ...]] = {}
    for row in rows:
        owner = (row.account_id, row.endpoint_id)
        secrets[owner] = (*secrets.get(owner, ()), (row.id, row.fingerprint))
    return secrets


@lru_cache(maxsize=4_096)
def key_of(secret_id: str, fingerprint: str) -> bytes:
    """Return the 32 bytes of a secret. Raises SecretLostError when the service's secret has changed meanwhile."""
    key = _derive(secret_id)
    if not hmac.compare_digest(_fingerprint(key), fingerprint):
        raise SecretLostError("CINEMETER_SECRET differs from the one that this webhook secret was derived from")
    return key


def _lock_owner(session: Session, account_id: str, endpoint_id: str | None) -> None:
    # Two concurrent rotations would both create a current secret; the second waits for the first.
    name = f"cinemeter.webhook_secret.{account_id}.{endpoint_id or ''}"
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def _derive(identifier: str) -> bytes:
    return hmac.digest(get_settings().secret_key(), b"cinemeter webhook secret\0" + identifier.encode(), "sha256")


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(b"cinemeter webhook fingerprint\0" + key).hexdigest()[:16]
