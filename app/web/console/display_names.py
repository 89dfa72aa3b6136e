"""Names of the people and accounts behind ids, for pages of the console."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.tables import Account, Member


def names_of(session: Session, ids: Iterable[str | None]) -> dict[str, str]:
    """Return what to call each id: a member's address, an account's name; an unknown id stands for itself."""
    wanted = {each for each in ids if each}
    found = dict(session.execute(select(Member.id, Member.email).where(Member.id.in_(wanted))).all())
    found |= dict(session.execute(select(Account.id, Account.name).where(Account.id.in_(wanted))).all())
    return {each: found.get(each, each) for each in wanted}
