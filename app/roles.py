"""Scopes of keys and roles of members: the words, and the checks that every door makes with them."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from app.errors import AppError


class Scope(StrEnum):
    """What a key may be used for."""

    VIDEOS = "videos"
    BILLING = "billing"
    WEBHOOKS = "webhooks"
    ADMIN = "admin"


class Role(StrEnum):
    """What a member, or an admin key in a member's place, may do."""

    CREATOR = "creator"
    OWNER = "owner"
    PRICING_AUTHOR = "pricing_author"
    PRICING_APPROVER = "pricing_approver"
    OPERATOR = "operator"


# The roles that run the service; the other two run one account. A key carries them only beside the scope `admin`.
ADMIN_ROLES = frozenset({Role.PRICING_AUTHOR, Role.PRICING_APPROVER, Role.OPERATOR})

# What a signed-in member may do, said in the words of keys, so that every door asks one question.
SCOPES_OF_ROLE: dict[Role, frozenset[Scope]] = {
    Role.CREATOR: frozenset({Scope.VIDEOS}),
    Role.OWNER: frozenset({Scope.VIDEOS, Scope.BILLING, Scope.WEBHOOKS}),
    Role.PRICING_AUTHOR: frozenset({Scope.ADMIN}),
    Role.PRICING_APPROVER: frozenset({Scope.ADMIN}),
    Role.OPERATOR: frozenset({Scope.ADMIN}),
}


class RoleHolder(Protocol):
    """Whoever asks: something with scopes and roles."""

    @property
    def scopes(self) -> frozenset[str]: ...

    @property
    def roles(self) -> frozenset[str]: ...


def require_scope(caller: RoleHolder, scope: str) -> None:
    """Refuse a caller whose key lacks the scope.

    Raises:
        AppError: `forbidden`, naming the scope that is missing.
    """
    if scope not in caller.scopes:
        raise AppError(
            "forbidden", f"This needs a key with the scope {scope}.", scope=str(scope), scopes=sorted(caller.scopes)
        )


def require_role(caller: RoleHolder, *roles: str) -> None:
    """Refuse a caller that has none of these roles.

    Raises:
        AppError: `forbidden`, naming the roles that would do.
    """
    if not caller.roles.intersection(roles):
        wanted = " or ".join(str(role) for role in roles)
        raise AppError(
            "forbidden",
            f"This needs the role {wanted}.",
            needs=[str(role) for role in roles],
            roles=sorted(caller.roles),
        )


def require_may_grant(giver: RoleHolder | None, scopes: Iterable[str], roles: Iterable[str]) -> None:
    """Refuse a giver who hands out a scope or role that they do not have themselves.

    Owners may make creators of their account. No giver (None) is the house itself: the command line and the seed.

    Raises:
        AppError: `forbidden`, naming the scopes and roles that are out of reach.
    """
    if giver is None:
        return
    within = giver.roles | ({Role.CREATOR} if Role.OWNER in giver.roles else frozenset())
    beyond = sorted({*scopes} - giver.scopes) + sorted({*roles} - within)
    if beyond:
        raise AppError("forbidden", "Nobody can hand out a scope or role that they do not have.", beyond=beyond)


def read_scopes(words: Iterable[str]) -> list[str]:
    """Return the scopes in a fixed order, each once.

    Raises:
        AppError: `invalid_request` at a word that is no scope.
    """
    return _read(words, [str(scope) for scope in Scope], "scope", "scopes")


def read_roles(words: Iterable[str]) -> list[str]:
    """Return the roles in a fixed order, each once.

    Raises:
        AppError: `invalid_request` at a word that is no role.
    """
    return _read(words, [str(role) for role in Role], "role", "roles")


def _read(words: Iterable[str], allowed: list[str], noun: str, field: str) -> list[str]:
    asked = {str(word) for word in words}
    unknown = sorted(asked.difference(allowed))
    if unknown:
        raise AppError(
            "invalid_request", f"{unknown[0]!r} is not a {noun}.", field=field, value=unknown[0], allowed=allowed
        )
    return [word for word in allowed if word in asked]
