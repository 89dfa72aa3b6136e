"""Draft, edit, approve, schedule, withdraw and end contracts, the agreed rates of one account."""

from datetime import datetime

from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.tables import Account
from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.db import new_id
from app.errors import AppError
from app.prices.find import contract_by_id, newest_contract
from app.prices.lifecycle import approve_document, edit_document, lock_documents, schedule_document, withdraw_document
from app.prices.parse_cache import book_refusal, parse_contract_text
from app.prices.tables import PriceDocumentState, StoredContract
from app.roles import Role, require_role
from pricing.schema import Problem


def draft_contract(session: Session, actor: Actor, account_id: str, toml: str, *, note: str = "") -> StoredContract:
    """Create an account's new contract as a draft, based on its newest scheduled or published one.

    Raises AppError `not_found`, `forbidden`; `invalid_price_book` with every problem.
    """
    require_role(actor, Role.PRICING_AUTHOR)
    account = get_account(session, account_id)
    content_hash = _read(toml, account)
    base = newest_contract(session, account_id)
    moment = now(session)
    stored = StoredContract(
        id=new_id("contract"),
        account_id=account_id,
        toml=toml,
        content_hash=content_hash,
        state=PriceDocumentState.DRAFT,
        based_on=None if base is None else base.id,
        note=note,
        author=actor.person,
        created_at=moment,
        edited_at=moment,
        sole_admin=False,
    )
    session.add(stored)
    record_action(
        session,
        actor,
        "contract.drafted",
        stored.id,
        account=account_id,
        content_hash=content_hash,
        based_on=stored.based_on,
    )
    return stored


def edit_contract(
    session: Session, actor: Actor, contract_id: str, toml: str, *, note: str | None = None
) -> StoredContract:
    """Replace a draft's text. Raises `not_found`, `forbidden`, `conflict`, `invalid_price_book`."""
    stored = contract_by_id(session, contract_id)
    edit_document(session, actor, stored, toml, _read(toml, get_account(session, stored.account_id)), note)
    return stored


def approve_contract(session: Session, actor: Actor, contract_id: str, *, content_hash: str) -> StoredContract:
    """Approve a draft as it was read. Raises `not_found`, `forbidden`, `conflict`."""
    stored = contract_by_id(session, contract_id)
    approve_document(session, actor, stored, content_hash)
    return stored


def schedule_contract(
    session: Session, actor: Actor, contract_id: str, effective_at: datetime | None = None
) -> StoredContract:
    """Let an approved contract take effect at a moment in the future; an account's first may do so at once.

    Raises AppError `not_found`, `forbidden`, `conflict`, `invalid_request`.
    """
    lock_documents(session)
    stored = contract_by_id(session, contract_id)
    schedule_document(session, actor, stored, newest_contract(session, stored.account_id), effective_at)
    return stored


def withdraw_contract(session: Session, actor: Actor, contract_id: str, *, reason: str) -> StoredContract:
    """Withdraw a contract before it takes effect. Raises `not_found`, `forbidden`, `conflict`."""
    lock_documents(session)
    stored = contract_by_id(session, contract_id)
    withdraw_document(session, actor, stored, newest_contract(session, stored.account_id), reason)
    return stored


def end_contract(session: Session, actor: Actor, contract_id: str, at: datetime, *, reason: str) -> StoredContract:
    """End a contract in effect at a moment that is not in the past; new quotes have list prices from then on.

    An end may be brought forward, never postponed: that would be new terms, which a second person has to approve.

    Raises AppError `not_found`, `forbidden`; `conflict` if it is not scheduled, or has ended; `invalid_request`.
    """
    require_role(actor, Role.PRICING_APPROVER)
    lock_documents(session)
    stored = contract_by_id(session, contract_id)
    session.refresh(stored, with_for_update=True)
    if stored.state != PriceDocumentState.SCHEDULED or stored.effective_at is None:
        raise AppError("conflict", f"The contract is {stored.state}, so it cannot be ended.", state=stored.state)
    if stored.ends_at is not None and stored.ends_at <= now(session):
        raise AppError("conflict", "The contract has ended; draft a new one.", ends_at=stored.ends_at.isoformat())
    if stored.ends_at is not None and at > stored.ends_at:
        message = "The end can be brought forward, not postponed; draft a new contract."
        raise AppError("invalid_request", message, field="at", allowed=f"until {stored.ends_at.isoformat()}")
    if at < now(session) or at <= stored.effective_at:
        raise AppError("invalid_request", "A contract ends after it took effect, and not in the past.", field="at")
    stored.ends_at = at
    record_action(session, actor, "contract.ended", stored.id, at=at.isoformat(), reason=reason)
    return stored


def _read(toml: str, account: Account) -> str:
    contract = parse_contract_text(toml)
    if contract.currency != account.currency:
        raise book_refusal([Problem("currency", f"must be {account.currency}, in which the account's wallet is kept")])
    return contract.content_hash
