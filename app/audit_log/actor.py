"""The person who acts, with which key and roles."""

from dataclasses import dataclass

from app.accounts.caller import Caller
from app.roles import ADMIN_ROLES, Scope


@dataclass(frozen=True, slots=True)
class Actor:
    """A person who acts. Four-eyes rules compare `person`; the audit log records `via` beside it."""

    person: str
    via: str
    roles: frozenset[str]
    scopes: frozenset[str] = frozenset({Scope.ADMIN})

    @classmethod
    def of(cls, caller: Caller) -> "Actor":
        """Return the actor behind an authenticated caller."""
        return cls(caller.person, caller.via, caller.roles, caller.scopes)


# Seeding a new database acts as the system; nobody signs in as it.
SYSTEM_ACTOR = Actor("house", "seed", frozenset(ADMIN_ROLES))
