"""What customers declare of the files that they upload: that they may use them, and whether they show a real person."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import or_, update
from sqlalchemy.orm import Session

from app.assets.owner import AssetOwner, owned
from app.assets.schemas import Declaration
from app.assets.tables import Asset
from app.errors import AppError


def stored_declaration(declaration: Declaration | None) -> dict[str, Any] | None:
    """Return a declaration as it is stored with a file, or None without one.

    Raises AppError `invalid_request`, naming the field: without the right to use a file, or the consent of the person
    that it shows, it must not be uploaded.
    """
    if declaration is None:
        return None
    if not declaration.rights:
        message = "Upload only files that you may use: declaration.rights must be true."
        raise AppError("invalid_request", message, field="declaration.rights", value=False, allowed=[True])
    if declaration.likeness and not declaration.consent:
        message = "A real person may be shown only with their consent: declaration.consent must be true."
        raise AppError("invalid_request", message, field="declaration.consent", value=False, allowed=[True])
    return declaration.model_dump(exclude_defaults=True)


def require_declaration(declaration: Declaration | None, *, is_required: bool) -> dict[str, Any] | None:
    """Return a declaration as `stored_declaration` does. Raises AppError `invalid_request` for a missing one too."""
    if declaration is None and is_required:
        raise missing_declaration()
    return stored_declaration(declaration)


def missing_declaration() -> AppError:
    """Return the error for files of which nothing is declared, in an account that has to declare them."""
    message = (
        "This account has to declare that it may use the files that it sends: send declaration with rights: true, or "
        "let an owner declare it once for all files on the page Profile."
    )
    return AppError("invalid_request", message, field="declaration", allowed=[{"rights": True}])


def declare(session: Session, owner: AssetOwner, asset_ids: Iterable[str], declaration: Mapping[str, Any]) -> None:
    """Store what an order declares of its files: of those without a declaration, and a likeness of all.

    Files of others stay as they are. Commit soon: the rows are locked in the order of the index.
    """
    new = or_(Asset.declaration.is_(None), ~Asset.declaration.has_key("likeness"))
    known = Asset.declaration.is_(None) if "likeness" not in declaration else new
    rows = update(Asset).where(*owned(owner), Asset.id.in_(sorted(asset_ids)), known)
    session.execute(rows.values(declaration=dict(declaration)), execution_options={"synchronize_session": "fetch"})


def shows_person(asset: Asset | None) -> bool:
    """Return whether a file is declared to show a real person."""
    return bool(asset is not None and (asset.declaration or {}).get("likeness"))


def is_declared(asset: Asset | None) -> bool:
    """Return whether the right to use a file is declared; films of this service are the account's own."""
    return asset is not None and (asset.declaration is not None or "film" in (asset.marks or {}))
