"""The pictures of the studio's form: whoever orders a film with them says that they may use them."""

from sqlalchemy.orm import Session

from app.assets.declarations import declare, is_declared, stored_declaration
from app.assets.schemas import Declaration
from app.assets.tables import Asset
from app.db import commit_early
from app.errors import AppError
from app.web.auth import Visitor
from app.web.studio.draft import Draft


def declare_pictures(session: Session, visitor: Visitor, draft: Draft) -> None:
    """Store what the form declares of its pictures. What the session has done before is committed first.

    Raises AppError `invalid_request` where nothing is declared of one of them, nor by an owner of all files.
    """
    if draft.declaration is not None:
        stored = stored_declaration(Declaration.model_validate(draft.declaration)) or {}
        declare(session, visitor.caller, draft.pictures, stored)
        # An order locks its inputs after other rows, so these are freed first.
        commit_early(session)
        return
    is_standing = visitor.caller.account.rights_declared_at is not None
    is_known = is_standing or all(is_declared(session.get(Asset, asset_id)) for asset_id in draft.pictures)
    # A likeness is never declared alone, so that it is not lost.
    if draft.pictures and (draft.likeness or not is_known):
        raise AppError("invalid_request", "Say that you may use the pictures.", field="declaration")
