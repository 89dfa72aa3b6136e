"""The owner of an asset: an account, optionally one of its projects, and its test or live side."""

from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import ColumnElement

from app.assets.tables import Asset, AssetState


class AssetOwner(Protocol):
    """The owner of assets; a Caller is one."""

    @property
    def account_id(self) -> str:
        """The account of the asset."""
        ...

    @property
    def project_id(self) -> str | None:
        """The project of the asset, or None for the account as a whole."""
        ...

    @property
    def test(self) -> bool:
        """Whether it was uploaded with a test key, or for a test film."""
        ...


@dataclass(frozen=True)
class OwnerIds:
    """An owner by its ids: from a signed URL, or from the job whose film becomes an asset."""

    account_id: str
    project_id: str | None = None
    test: bool = False


def owned(owner: AssetOwner) -> list[ColumnElement[bool]]:
    """Return the conditions for the assets that an owner may see; a project's key sees only its project's."""
    conditions = [
        Asset.account_id == owner.account_id,
        Asset.test == owner.test,
        Asset.state != AssetState.DELETED,
    ]
    return conditions if owner.project_id is None else [*conditions, Asset.project_id == owner.project_id]
