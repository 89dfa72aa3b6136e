"""Display names of members and accounts by id, for the console."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.tables import Account, Member


def display_names(session: Session, ids: Iterable[str | None]) -> dict[str, str]:
    """Return the display name of each id: a member's e-mail, an account's name, or the id itself if unknown."""
    known_ids = {each for each in ids if each}
    names = dict(session.execute(select(Member.id, Member.email).where(Member.id.in_(known_ids))).all())
    names |= dict(session.execute(select(Account.id, Account.name).where(Account.id.in_(known_ids))).all())
    return {each: names.get(each, each) for each in known_ids}


def person_id(session: Session, name: str) -> str:
    """Return the id of the member with this e-mail, or `name` itself, which may be an id.

    Members who were removed keep their address only in what they did; the newest one who had it is returned.
    """
    query = select(Member.id).where(Member.email == name.strip().lower()).order_by(Member.created_at.desc()).limit(1)
    return session.scalar(query) or name.strip()
