"""Contract routes: the agreed rates of one account, with the same lifecycle as price books."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.admin.access import AdminCaller, ApproverCaller, AuthorCaller, PricingCaller
from app.api.admin.price_documents import (
    ComparisonOut,
    PriceDocumentDetailOut,
    PriceDocumentOut,
    PriceDocumentPage,
    show_comparison,
    show_document,
    show_document_detail,
)
from app.api.admin.schemas import ApprovalIn, ContractEndIn, ContractIn, PriceDocumentEditIn, ReasonIn, ScheduleIn
from app.audit_log.actor import Actor
from app.prices import compare, contracts, find
from app.request_session import SessionDep

router = APIRouter(prefix="/v1/admin/contracts", tags=["admin: contracts"])

Against = Annotated[str | None, Query(max_length=64)]


@router.get("")
def list_contracts(
    session: SessionDep, caller: AdminCaller, account: Annotated[str | None, Query(max_length=64)] = None
) -> PriceDocumentPage:
    """List the contracts of one account, or of all."""
    return PriceDocumentPage(data=[show_document(session, each) for each in find.list_contracts(session, account)])


@router.post("", status_code=201)
def draft_contract(session: SessionDep, caller: AuthorCaller, body: ContractIn) -> PriceDocumentDetailOut:
    """Create a draft of an account's contract, based on its newest contract."""
    return show_document_detail(
        session, contracts.draft_contract(session, Actor.of(caller), body.account, body.toml, note=body.note)
    )


@router.get("/{contract_id}")
def get_contract(session: SessionDep, caller: AdminCaller, contract_id: str) -> PriceDocumentDetailOut:
    """Return a contract with its text."""
    return show_document_detail(session, find.contract_by_id(session, contract_id))


@router.patch("/{contract_id}")
def edit_contract(
    session: SessionDep, caller: AuthorCaller, contract_id: str, body: PriceDocumentEditIn
) -> PriceDocumentDetailOut:
    """Replace a draft's text. Only its author may do this."""
    return show_document_detail(
        session, contracts.edit_contract(session, Actor.of(caller), contract_id, body.toml, note=body.note)
    )


@router.get("/{contract_id}/diff")
def diff_contract(session: SessionDep, caller: AdminCaller, contract_id: str, against: Against = None) -> ComparisonOut:
    """Return what a contract changes compared with the one before it."""
    return show_comparison(compare.compare_contract(session, contract_id, against))


@router.post("/{contract_id}/approve")
def approve_contract(
    session: SessionDep, caller: ApproverCaller, contract_id: str, body: ApprovalIn
) -> PriceDocumentOut:
    """Approve a draft by its content hash. Its author may not approve it."""
    contract = contracts.approve_contract(session, Actor.of(caller), contract_id, content_hash=body.content_hash)
    return show_document(session, contract)


@router.post("/{contract_id}/schedule")
def schedule_contract(
    session: SessionDep, caller: PricingCaller, contract_id: str, body: ScheduleIn
) -> PriceDocumentOut:
    """Schedule an approved contract. An account's first contract may take effect immediately."""
    return show_document(
        session, contracts.schedule_contract(session, Actor.of(caller), contract_id, body.effective_at)
    )


@router.post("/{contract_id}/withdraw")
def withdraw_contract(session: SessionDep, caller: PricingCaller, contract_id: str, body: ReasonIn) -> PriceDocumentOut:
    """Withdraw a contract before it takes effect."""
    return show_document(
        session, contracts.withdraw_contract(session, Actor.of(caller), contract_id, reason=body.reason)
    )


@router.post("/{contract_id}/end")
def end_contract(
    session: SessionDep, caller: ApproverCaller, contract_id: str, body: ContractEndIn
) -> PriceDocumentOut:
    """End a contract in effect. From then on, list prices apply to new quotes."""
    return show_document(
        session, contracts.end_contract(session, Actor.of(caller), contract_id, body.at, reason=body.reason)
    )
