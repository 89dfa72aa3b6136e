"""Who acts on prices: the person, by what key, with which roles."""

from dataclasses import dataclass

from app.accounts.caller import Caller
from app.roles import ADMIN_ROLES, Scope


@dataclass(frozen=True, slots=True)
class Actor:
    """A person who acts. Four-eyes rules compare `person`; the audit trail keeps `via` beside it."""

    person: str
    via: str
    roles: frozenset[str]
    scopes: frozenset[str] = frozenset({Scope.ADMIN})

    @classmethod
    def of(cls, caller: Caller) -> "Actor":
        """Return the actor behind an authenticated caller."""
        return cls(caller.person, caller.via, caller.roles, caller.scopes)


# The seed of a fresh home acts as the house; nobody signs in as it.
SYSTEM_ACTOR = Actor("house", "seed", frozenset(ADMIN_ROLES))
