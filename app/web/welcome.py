"""First-run links: `cinemeter up` prints an address under which a seeded member chooses their first password.

The link is signed with the service's secret and works for one day, and only for as long as the member has no
password. So it needs no row of its own, and using it ends it.
"""

import base64
import hashlib
import hmac
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.tables import Member
from app.clock import now
from app.digits import whole
from app.errors import AppError
from app.settings import get_settings

VALID = timedelta(days=1)


def welcome_links(session: Session) -> dict[str, str]:
    """Return the first-run link of every member who has no password yet, by e-mail address."""
    waiting = session.scalars(
        select(Member).where(Member.password_hash.is_(None), Member.removed_at.is_(None)).order_by(Member.email)
    )
    ends = int((now(session) + VALID).timestamp())
    base = get_settings().base_url()
    return {member.email: f"{base}/welcome/{_sign(member.id, ends)}" for member in waiting}


def welcomed(session: Session, token: str) -> Member:
    """Return the member whom a first-run link is for.

    Raises:
        AppError: `not_found` for a link that is forged, too old, or was used.
    """
    refused = AppError("not_found", "This link was used before or is too old. `cinemeter up` prints a fresh one.")
    member_id, _, rest = token.partition(".")
    ends = whole(rest.partition(".")[0])
    if ends is None or not hmac.compare_digest(_sign(member_id, ends).encode(), token.encode()):
        raise refused
    member = session.get(Member, member_id, with_for_update=True)
    if member is None or member.removed_at is not None or member.password_hash is not None:
        raise refused
    if ends < now(session).timestamp():
        raise refused
    return member


def _sign(member_id: str, ends: int) -> str:
    words = f"{member_id}.{ends}"
    digest = hmac.new(get_settings().secret_key(), b"welcome:" + words.encode(), hashlib.sha256).digest()
    return f"{words}.{base64.urlsafe_b64encode(digest[:24]).decode().rstrip('=')}"
