"""Whose an asset is: an account's, perhaps one project's of it, and on the side of test or of live."""

from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import ColumnElement

from app.assets.tables import Asset, AssetState


class AssetOwner(Protocol):
    """Who brings or asks for an asset; a Caller is one."""

    @property
    def account_id(self) -> str:
        """The account whose storage it takes."""
        ...

    @property
    def project_id(self) -> str | None:
        """The project of the account that it belongs to, or None for the account as a whole."""
        ...

    @property
    def test(self) -> bool:
        """Whether it was brought by a test key, or for a test film."""
        ...


@dataclass(frozen=True)
class OwnerIds:
    """An owner known by name only: from a signed address, or from the job whose film becomes an asset."""

    account_id: str
    project_id: str | None = None
    test: bool = False


def owned(owner: AssetOwner) -> list[ColumnElement[bool]]:
    """Return the conditions of the assets that an owner sees: as with jobs, a project's key sees its project's only."""
    conditions = [
        Asset.account_id == owner.account_id,
        Asset.test == owner.test,
        Asset.state != AssetState.DELETED,
    ]
    return conditions if owner.project_id is None else [*conditions, Asset.project_id == owner.project_id]
