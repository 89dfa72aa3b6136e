"""Scopes of keys and roles of members, and the permission checks of every API."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from app.errors import AppError


class Scope(StrEnum):
    """A permission of a key."""

    VIDEOS = "videos"
    BILLING = "billing"
    WEBHOOKS = "webhooks"
    ADMIN = "admin"


class Role(StrEnum):
    """A role of a member, or of an admin key."""

    CREATOR = "creator"
    OWNER = "owner"
    PRICING_AUTHOR = "pricing_author"
    PRICING_APPROVER = "pricing_approver"
    OPERATOR = "operator"
    MODERATOR = "moderator"


# The roles that run the service; the other two run one account. A key has them only with the scope `admin`.
ADMIN_ROLES = frozenset({Role.PRICING_AUTHOR, Role.PRICING_APPROVER, Role.OPERATOR, Role.MODERATOR})

# The scopes of a signed-in member by role, so that every API makes one check.
SCOPES_OF_ROLE: dict[Role, frozenset[Scope]] = {
    Role.CREATOR: frozenset({Scope.VIDEOS}),
    Role.OWNER: frozenset({Scope.VIDEOS, Scope.BILLING, Scope.WEBHOOKS}),
    Role.PRICING_AUTHOR: frozenset({Scope.ADMIN}),
    Role.PRICING_APPROVER: frozenset({Scope.ADMIN}),
    Role.OPERATOR: frozenset({Scope.ADMIN}),
    Role.MODERATOR: frozenset({Scope.ADMIN}),
}


class RoleHolder(Protocol):
    """A caller with scopes and roles."""

    @property
    def scopes(self) -> frozenset[str]: ...

    @property
    def roles(self) -> frozenset[str]: ...


def require_scope(caller: RoleHolder, scope: str) -> None:
    """Refuse a caller whose key lacks the scope. Raises AppError `forbidden` with the missing scope."""
    if scope not in caller.scopes:
        raise AppError(
            "forbidden", f"This needs a key with the scope {scope}.", scope=str(scope), scopes=sorted(caller.scopes)
        )


def require_role(caller: RoleHolder, *roles: str) -> None:
    """Refuse a caller that has none of these roles. Raises AppError `forbidden` with the accepted roles."""
    if not caller.roles.intersection(roles):
        needed = " or ".join(str(role) for role in roles)
        raise AppError(
            "forbidden",
            f"This needs the role {needed}.",
            needs=[str(role) for role in roles],
            roles=sorted(caller.roles),
        )


def require_may_grant(granter: RoleHolder | None, scopes: Iterable[str], roles: Iterable[str]) -> None:
    """Refuse to grant a scope or role that the granter does not have.

    Owners may grant the role creator in their account. None is the service itself: the command line and the seed.
    Raises AppError `forbidden` with the scopes and roles that may not be granted.
    """
    if granter is None:
        return
    grantable = granter.roles | ({Role.CREATOR} if Role.OWNER in granter.roles else frozenset())
    beyond = sorted({*scopes} - granter.scopes) + sorted({*roles} - grantable)
    if beyond:
        raise AppError("forbidden", "You can only grant scopes and roles that you have yourself.", beyond=beyond)


def read_scopes(values: Iterable[str]) -> list[str]:
    """Return the scopes in a fixed order, each once. Raises AppError `invalid_request` for an unknown scope."""
    return _read(values, [str(scope) for scope in Scope], "scope", "scopes")


def read_roles(values: Iterable[str]) -> list[str]:
    """Return the roles in a fixed order, each once. Raises AppError `invalid_request` for an unknown role."""
    return _read(values, [str(role) for role in Role], "role", "roles")


def _read(values: Iterable[str], allowed: list[str], noun: str, field: str) -> list[str]:
    names = {str(name) for name in values}
    unknown = sorted(names.difference(allowed))
    if unknown:
        raise AppError(
            "invalid_request", f"{unknown[0]!r} is not a {noun}.", field=field, value=unknown[0], allowed=allowed
        )
    return [name for name in allowed if name in names]
