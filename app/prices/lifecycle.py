"""The life cycle of books and contracts: draft, approved, scheduled, in effect from its moment on, or withdrawn."""

from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.role_holders import persons_with_role
from app.audit_log.actor import SYSTEM_ACTOR, Actor
from app.audit_log.log import record_action
from app.clock import now, read_again
from app.errors import AppError
from app.prices.tables import PriceDocumentState, StoredBook, StoredContract
from app.roles import Role, require_role

StoredDocument = StoredBook | StoredContract

# Changes to which document is the newest are made one after the other.
_LOCK = 0x7061_7065


def lock_documents(session: Session) -> None:
    """Wait until no other transaction is scheduling, withdrawing or ending a document; held until the commit."""
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    # The wait may have lasted past the moment at which a document took effect.
    read_again(session)


def edit_document(
    session: Session,
    actor: Actor,
    document: StoredDocument,
    toml: str,
    content_hash: str,
    note: str | None,
    *,
    read_hash: str | None = None,
) -> None:
    """Replace a draft's text. Only its author may, or the approver would not know whose work it is.

    `read_hash`: the content hash of the text that the author edited, which must still be the draft's; None: any.

    Raises AppError `forbidden`, `conflict`.
    """
    require_role(actor, Role.PRICING_AUTHOR)
    _reload(session, document)
    _require_state(document, PriceDocumentState.DRAFT)
    if document.author != actor.person:
        raise AppError("forbidden", "Only its author edits a draft; write one of your own.", author=document.author)
    before = document.content_hash
    if read_hash not in (None, before):
        message = "The draft was edited elsewhere since you opened it. Open it again and repeat your changes."
        raise AppError("conflict", message, field="content_hash", content_hash=before)
    document.toml, document.content_hash, document.edited_at = toml, content_hash, now(session)
    document.note = document.note if note is None else note
    record_action(session, actor, f"{_noun(document)}.edited", document.id, before=before, after=content_hash)


def approve_document(session: Session, actor: Actor, document: StoredDocument, content_hash: str, **facts: Any) -> None:
    """Approve a draft as it was read: its content hash must still be the one that the approver names.

    `facts` go into the audit log entry too.

    Raises AppError `forbidden` without the role, or for the author while somebody else could approve; `conflict` if it
    is not a draft or was edited meanwhile.
    """
    require_role(actor, Role.PRICING_APPROVER)
    _reload(session, document)
    _require_state(document, PriceDocumentState.DRAFT)
    if document.content_hash != content_hash:
        raise AppError(
            "conflict",
            "The draft was edited since you read it.",
            field="content_hash",
            content_hash=document.content_hash,
        )
    sole = document.author == actor.person
    if sole and actor != SYSTEM_ACTOR and (others := approvers(session) - {actor.person}):
        raise AppError("forbidden", "It needs approval by another admin.", approvers=len(others))
    document.state, document.approver, document.approved_at = PriceDocumentState.APPROVED, actor.person, now(session)
    document.sole_admin = sole
    facts = {"content_hash": content_hash, "sole_admin": sole, **facts}
    record_action(session, actor, f"{_noun(document)}.approved", document.id, **facts)


def schedule_document(
    session: Session,
    actor: Actor,
    document: StoredDocument,
    newest: StoredDocument | None,
    effective_at: datetime | None,
) -> None:
    """Schedule an approved document; it is in force from its effective moment on, with no further action.

    The caller holds `lock_documents` and read `newest` under it. The first document takes effect at once where no
    moment is named.

    Raises AppError `forbidden`; `conflict` if it is not approved, or not based on the newest; `invalid_request` for a
    moment that is not in the future or not after the newest one's.
    """
    require_role(actor, Role.PRICING_AUTHOR, Role.PRICING_APPROVER)
    _reload(session, document)
    _require_state(document, PriceDocumentState.APPROVED)
    if document.based_on != (None if newest is None else newest.id):
        raise AppError(
            "conflict",
            "It is not based on the newest scheduled or published one; draft it again from that.",
            field="based_on",
            based_on=document.based_on,
            newest=None if newest is None else newest.id,
        )
    moment = now(session)
    if effective_at is None and newest is None:
        effective_at = moment
    elif effective_at is None or effective_at <= moment:
        raise AppError("invalid_request", "It takes effect at a moment in the future.", field="effective_at")
    if newest is not None and newest.effective_at is not None and effective_at <= newest.effective_at:
        raise AppError(
            "invalid_request",
            "It would be overtaken by the one that it is based on, which takes effect later.",
            field="effective_at",
            newest_effective_at=newest.effective_at.isoformat(),
        )
    document.state, document.effective_at = PriceDocumentState.SCHEDULED, effective_at
    document.scheduled_by, document.scheduled_at = actor.person, moment
    record_action(session, actor, f"{_noun(document)}.scheduled", document.id, effective_at=effective_at.isoformat())


def withdraw_document(
    session: Session, actor: Actor, document: StoredDocument, newest: StoredDocument | None, reason: str
) -> None:
    """Withdraw a document for good: a draft or an approved one at any time, a scheduled one until it takes effect.

    The caller holds `lock_documents` and read `newest` under it.

    Raises AppError `forbidden`; `conflict` if it is in effect, was withdrawn before, or another one is based on it.
    """
    require_role(actor, Role.PRICING_AUTHOR, Role.PRICING_APPROVER)
    _reload(session, document)
    state = document.state_at(now(session))
    if state in (PriceDocumentState.PUBLISHED, PriceDocumentState.WITHDRAWN):
        raise AppError("conflict", f"It is {state} and can no longer be withdrawn.", state=str(state))
    if state is PriceDocumentState.SCHEDULED and newest is not None and newest.id != document.id:
        raise AppError("conflict", "Another one is based on it; withdraw that one first.", newest=newest.id)
    document.state, document.withdrawn_by, document.withdrawn_at = (
        PriceDocumentState.WITHDRAWN,
        actor.person,
        now(session),
    )
    record_action(session, actor, f"{_noun(document)}.withdrawn", document.id, was=str(state), reason=reason)


def approvers(session: Session) -> set[str]:
    """Return the persons who can approve: members with the role, and those behind live keys that carry it."""
    return persons_with_role(session, Role.PRICING_APPROVER)


def _reload(session: Session, document: StoredDocument) -> None:
    """Lock a document's row and read it again, so that decisions rest on its current state."""
    session.refresh(document, with_for_update=True)


def _require_state(document: StoredDocument, state: PriceDocumentState) -> None:
    if document.state != state:
        raise AppError("conflict", f"It is {document.state}, not {state}.", state=document.state, needs=str(state))


def _noun(document: StoredDocument) -> str:
    return "book" if isinstance(document, StoredBook) else "contract"
