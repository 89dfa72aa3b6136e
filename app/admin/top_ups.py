"""Top-ups by operators. Above a ceiling one operator requests the amount and a second one approves it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.role_holders import persons_with_role
from app.admin.money import record_transfer, require_positive, top_up_ceiling
from app.admin.tables import TopUpRequest, TopUpRequestState
from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.db import new_id
from app.errors import AppError, not_found
from app.roles import Role, require_role
from app.wallet.funds import top_up
from app.wallet.tables import LotKind, Transfer, TransferKind
from pricing.money import Money, require_integer


@dataclass(frozen=True)
class TopUp:
    """Money for a wallet, in minor units. `kind`: purchased or granted. `expires_at`: when the credit expires."""

    amount: int
    kind: str
    reference: str
    expires_at: datetime | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        require_integer(self.amount, "amount", least=None)


def needs_second_operator(session: Session, actor: Actor, amount: int, currency: str) -> bool:
    """Return whether a top-up by this operator has to be approved by another one. A sole operator needs nobody."""
    require_integer(amount)
    return amount > top_up_ceiling(currency) and bool(persons_with_role(session, Role.OPERATOR) - {actor.person})


def add_funds(session: Session, actor: Actor, account_id: str, order: TopUp) -> Transfer | TopUpRequest:
    """Top a wallet up; the same reference again returns the first transfer.

    Above the ceiling it returns an open request, until a second operator sends the same top-up or approves it. A sole
    operator needs no second one; the audit log says so.

    Raises AppError `forbidden`, `not_found`, `invalid_request`; `conflict` for a reference of another top-up.
    """
    require_role(actor, Role.OPERATOR)
    require_positive(order.amount)
    account = get_account(session, account_id)
    if order.amount <= top_up_ceiling(account.currency) or _is_repeated(session, account_id, order):
        _check_open_request(session, account_id, order)
        return _transfer(session, actor, account_id, order)
    request, is_new = _request(session, actor, account_id, order)
    others = persons_with_role(session, Role.OPERATOR) - {actor.person}
    if request.state == TopUpRequestState.OPEN and request.requested_by == actor.person and others:
        if is_new:
            amount = Money(order.amount, account.currency).text
            facts = {"account": account_id, "amount": amount, "reference": order.reference, "reason": order.reason}
            record_action(session, actor, "wallet.top_up_requested", request.id, **facts)
        return request
    return _approve(session, actor, request)


def approve_top_up(session: Session, actor: Actor, account_id: str, request_id: str) -> Transfer:
    """Approve another operator's request; a repeated approval returns the same transfer.

    Raises AppError `forbidden`, also for the requester while there is another operator; `not_found`, `conflict`.
    """
    require_role(actor, Role.OPERATOR)
    request = _locked(session, account_id, request_id)
    others = persons_with_role(session, Role.OPERATOR) - {actor.person}
    if request.state == TopUpRequestState.OPEN and request.requested_by == actor.person and others:
        raise AppError("forbidden", "Another operator must approve this top-up.", operators=len(others))
    return _approve(session, actor, request)


def withdraw_top_up(session: Session, actor: Actor, account_id: str, request_id: str) -> TopUpRequest:
    """Withdraw an open request for good. Raises AppError `forbidden`, `not_found`, `conflict` where it is decided."""
    require_role(actor, Role.OPERATOR)
    request = _locked(session, account_id, request_id)
    if request.state != TopUpRequestState.OPEN:
        raise AppError("conflict", f"This top-up is {request.state} already.", state=request.state)
    _decide(session, actor, request, TopUpRequestState.WITHDRAWN)
    record_action(session, actor, "wallet.top_up_withdrawn", request.id, account=account_id)
    return request


def open_top_ups(session: Session, account_id: str) -> list[TopUpRequest]:
    """Return the account's top-ups that wait for a second operator, oldest first."""
    waits = (TopUpRequest.account_id == account_id, TopUpRequest.state == TopUpRequestState.OPEN)
    return list(session.scalars(select(TopUpRequest).where(*waits).order_by(TopUpRequest.requested_at)))


def _request(session: Session, actor: Actor, account_id: str, order: TopUp) -> tuple[TopUpRequest, bool]:
    """Return the request of this reference, locked, and whether it is new. Raises AppError `conflict`."""
    kinds = [str(kind) for kind in LotKind]
    if order.kind not in kinds:
        raise AppError("invalid_request", f"{order.kind!r} is no kind of credit.", field="kind", allowed=kinds)
    if order.expires_at is not None and order.expires_at <= now(session):
        raise AppError("invalid_request", "The credit would have expired already.", field="expires_at")
    values: dict[str, Any] = {"account_id": account_id, **vars(order), "state": TopUpRequestState.OPEN}
    new = session.scalar(
        insert(TopUpRequest)
        .values(id=new_id("topup"), requested_by=actor.person, requested_at=now(session), **values)
        .on_conflict_do_nothing()
        .returning(TopUpRequest.id)
    )
    request = session.scalars(_same_reference(account_id, order)).one()
    _check_terms(request, order)
    return request, new is not None


def _check_open_request(session: Session, account_id: str, order: TopUp) -> None:
    """Refuse a reference under which another top-up waits: it could never be approved. Raises AppError `conflict`."""
    request = session.scalars(_same_reference(account_id, order)).one_or_none()
    if request is not None and request.state == TopUpRequestState.OPEN:
        _check_terms(request, order)


def _same_reference(account_id: str, order: TopUp) -> Select[TopUpRequest]:
    same = (
        TopUpRequest.account_id == account_id,
        TopUpRequest.kind == order.kind,
        TopUpRequest.reference == order.reference,
    )
    return select(TopUpRequest).where(*same).with_for_update()


def _check_terms(request: TopUpRequest, order: TopUp) -> None:
    if (request.amount, request.expires_at) != (order.amount, order.expires_at):
        raise AppError("conflict", "This reference was used for another top-up.", field="reference")


def _is_repeated(session: Session, account_id: str, order: TopUp) -> bool:
    """Return whether this reference has moved money before; the ceiling may have been another one then."""
    bought = TransferKind.PURCHASE if order.kind == LotKind.PURCHASED else TransferKind.GRANT
    reference = f"{bought}:{account_id}:{order.reference}"
    return session.scalar(select(Transfer.id).where(Transfer.reference == reference)) is not None


def _approve(session: Session, actor: Actor, request: TopUpRequest) -> Transfer:
    if request.state == TopUpRequestState.WITHDRAWN:
        raise AppError("conflict", "This top-up was withdrawn. Use another reference.", field="reference")
    order = TopUp(**{name: getattr(request, name) for name in vars(TopUp(0, "", ""))})
    facts: dict[str, object] = {"requested_by": request.requested_by}
    if request.state == TopUpRequestState.OPEN:
        _decide(session, actor, request, TopUpRequestState.APPROVED)
        facts["sole_operator"] = request.requested_by == actor.person
    return _transfer(session, actor, request.account_id, order, **facts)


def _decide(session: Session, actor: Actor, request: TopUpRequest, state: TopUpRequestState) -> None:
    request.state, request.decided_by, request.decided_at = state, actor.person, now(session)
    session.flush()


def _locked(session: Session, account_id: str, request_id: str) -> TopUpRequest:
    request = session.get(TopUpRequest, request_id, with_for_update=True, populate_existing=True)
    if request is None or request.account_id != account_id:
        raise not_found("top-up request", request_id)
    return request


def _transfer(session: Session, actor: Actor, account_id: str, order: TopUp, **facts: object) -> Transfer:
    transfer = top_up(session, account_id, **vars(order))
    expiry = order.expires_at.isoformat() if order.expires_at else None
    facts = {"kind": order.kind, "expires_at": expiry, "reason": order.reason, **facts}
    record_transfer(session, actor, "wallet.topped_up", transfer, **facts)
    return transfer
