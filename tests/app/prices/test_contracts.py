"""Contracts live the life of books, account by account; intake can be paused and resumed."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.accounts import create_account
from app.accounts.tables import Account
from app.audit_log.log import list_entries
from app.clock import now
from app.errors import AppError
from app.jobs.intake import check_intake, list_pauses, pause_intake, resume_intake
from app.prices.audit import audit_prices
from app.prices.contracts import (
    approve_contract,
    draft_contract,
    edit_contract,
    end_contract,
    schedule_contract,
    withdraw_contract,
)
from app.prices.find import contract_at, contract_by_id, list_contracts
from app.prices.tables import StoredContract
from tests.app.prices.price_documents import APPROVER, AUTHOR, OPERATOR, contract_text

HOUR = timedelta(hours=1)


@pytest.fixture
def account(session: Session) -> Account:
    return create_account(session, "Studio Wu")


def refused(code: str, act: Callable[[], object]) -> AppError:
    with pytest.raises(AppError) as caught:
        act()
    assert caught.value.code == code
    return caught.value


def approved(session: Session, account: Account, name: str) -> StoredContract:
    stored = draft_contract(session, AUTHOR, account.id, contract_text(name=name))
    return approve_contract(session, APPROVER, stored.id, content_hash=stored.content_hash)


def in_force(session: Session, account: Account, hours: float = 0) -> str | None:
    contract = contract_at(session, account.id, now(session) + hours * HOUR)
    return None if contract is None else contract.name


def test_a_contract_is_in_force_for_its_account_until_the_next_one(session: Session, account: Account) -> None:
    other = create_account(session, "Studio Li")
    first = approved(session, account, "one")
    assert in_force(session, account) is None
    schedule_contract(session, APPROVER, first.id)
    assert in_force(session, account) == "one"
    assert in_force(session, other) is None
    second = approved(session, account, "two")
    assert second.based_on == first.id
    schedule_contract(session, APPROVER, second.id, now(session) + HOUR)
    assert [in_force(session, account, hours) for hours in (0, 0.999, 1)] == ["one", "one", "two"]
    assert [stored.id for stored in list_contracts(session, account.id)] == [second.id, first.id]
    assert list_contracts(session, other.id) == []
    assert audit_prices(session) == []


def test_a_contract_drafted_before_another_took_its_place_is_refused(session: Session, account: Account) -> None:
    slow, quick = (approved(session, account, name) for name in ("slow", "quick"))
    schedule_contract(session, APPROVER, quick.id)
    refused("conflict", lambda: schedule_contract(session, APPROVER, slow.id, now(session) + HOUR))


def test_a_contract_is_withdrawn_before_and_ended_after_it_takes_effect(session: Session, account: Account) -> None:
    first = approved(session, account, "one")
    refused("conflict", lambda: end_contract(session, APPROVER, first.id, now(session) + HOUR, reason="x"))
    schedule_contract(session, APPROVER, first.id)
    second = approved(session, account, "two")
    schedule_contract(session, APPROVER, second.id, now(session) + HOUR)
    withdraw_contract(session, AUTHOR, second.id, reason="drill")
    assert in_force(session, account, 2) == "one"
    refused("conflict", lambda: withdraw_contract(session, AUTHOR, first.id, reason="too late"))
    refused("invalid_request", lambda: end_contract(session, APPROVER, first.id, now(session) - HOUR, reason="x"))
    end_contract(session, APPROVER, first.id, now(session) + 2 * HOUR, reason="it ran out")
    assert [in_force(session, account, hours) for hours in (0, 1.999, 2)] == ["one", "one", None]


def test_the_end_of_a_contract_is_brought_forward_and_never_put_off(session: Session, account: Account) -> None:
    first = approved(session, account, "one")
    schedule_contract(session, APPROVER, first.id)
    end_contract(session, APPROVER, first.id, now(session) + 2 * HOUR, reason="it runs out")
    refused("invalid_request", lambda: end_contract(session, APPROVER, first.id, now(session) + 3 * HOUR, reason="x"))
    end = now(session) + HOUR
    end_contract(session, APPROVER, first.id, end, reason="sooner")
    session.commit()
    session.info["clock_offset"] = 2 * HOUR
    assert in_force(session, account) is None
    for hours in (0, 1):
        refused(
            "conflict",
            lambda later=hours: end_contract(session, APPROVER, first.id, now(session) + later * HOUR, reason="x"),
        )
    with pytest.raises(IntegrityError, match="only a draft"), session.begin_nested():
        session.execute(text("UPDATE contracts SET ends_at = ends_at + interval '1 day'"))


def test_no_contract_begins_in_the_past(session: Session, account: Account) -> None:
    first = approved(session, account, "one")
    refused("invalid_request", lambda: schedule_contract(session, APPROVER, first.id, now(session) - HOUR))
    schedule_contract(session, APPROVER, first.id, now(session) + HOUR)
    assert [in_force(session, account, hours) for hours in (0, 1)] == [None, "one"]


def test_what_a_contract_refuses(session: Session, account: Account) -> None:
    refused("not_found", lambda: draft_contract(session, AUTHOR, "acct_none", contract_text()))
    refused("not_found", lambda: contract_by_id(session, "contract_none"))
    refused("forbidden", lambda: draft_contract(session, APPROVER, account.id, contract_text()))
    refused("invalid_price_book", lambda: draft_contract(session, AUTHOR, account.id, "format = 1"))
    in_dollars = contract_text().replace("CNY", "USD")
    error = refused("invalid_price_book", lambda: draft_contract(session, AUTHOR, account.id, in_dollars))
    assert error.facts["problems"][0]["path"] == "currency"
    stored = draft_contract(session, AUTHOR, account.id, contract_text())
    seen = stored.content_hash
    edit_contract(session, AUTHOR, stored.id, contract_text("0.60"), note="as agreed by phone")
    refused("conflict", lambda: approve_contract(session, APPROVER, stored.id, content_hash=seen))


@pytest.mark.parametrize(
    ("model", "whole_account", "stopped"),
    [
        (None, False, {("demo", "a"), ("demo", "b"), ("wan", "a"), ("wan", "b")}),
        ("demo", False, {("demo", "a"), ("demo", "b")}),
        (None, True, {("demo", "a"), ("wan", "a")}),
        ("demo", True, {("demo", "a")}),
    ],
)
def test_a_pause_stops_what_it_names(session: Session, model: str | None, whole_account: bool, stopped: set) -> None:
    accounts = {name: create_account(session, name).id for name in ("a", "b")}
    where = {"model": model, "account_id": accounts["a"] if whole_account else None}
    paused = pause_intake(session, OPERATOR, **where, reason="maintenance")
    refused("conflict", lambda: pause_intake(session, OPERATOR, **where, reason="twice"))

    def stops(name: str, whose: str) -> bool:
        try:
            check_intake(session, account_id=accounts[whose], model=name)
        except AppError as error:
            return error.code == "intake_paused" and "maintenance" in error.message
        return False

    assert {(name, whose) for name in ("demo", "wan") for whose in accounts if stops(name, whose)} == stopped
    assert [pause.id for pause in list_pauses(session)] == [paused.id]
    resume_intake(session, OPERATOR, paused.id)
    assert not any(stops(name, whose) for name in ("demo", "wan") for whose in accounts)
    refused("not_found", lambda: resume_intake(session, OPERATOR, paused.id))
    pause_intake(session, OPERATOR, **where, reason="again")
    assert [entry.act for entry in list_entries(session)] == ["intake.paused", "intake.resumed", "intake.paused"]


def test_who_may_pause(session: Session) -> None:
    refused("forbidden", lambda: pause_intake(session, AUTHOR, reason="x"))
    refused("not_found", lambda: pause_intake(session, OPERATOR, account_id="acct_none", reason="x"))
