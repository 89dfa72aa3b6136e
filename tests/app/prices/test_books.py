"""The life of a price book: who may do what, when it takes effect, and what is refused."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.accounts import create_account, suspend
from app.accounts.keys import authenticate, issue_key, revoke_key
from app.accounts.members import add_member, caller_by_id
from app.admin.accounts import KeyOptions, create_key
from app.audit_log.actor import Actor
from app.audit_log.log import list_entries
from app.clock import now
from app.db import transaction
from app.errors import AppError
from app.prices.audit import audit_prices
from app.prices.books import approve_book, draft_book, edit_book, schedule_book, withdraw_book
from app.prices.find import book_at, book_by_hash, list_books, newest_book
from app.prices.lifecycle import approvers
from app.prices.seed import seed_book
from app.prices.tables import PriceDocumentState, StoredBook
from app.roles import Role
from tests.app.prices.price_documents import ALONE, APPROVER, AUTHOR, OPERATOR, approved, book_text

TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)


def refused(code: str, act: Callable[[], object]) -> AppError:
    with pytest.raises(AppError) as caught:
        act()
    assert caught.value.code == code
    return caught.value


@pytest.fixture
def first(session: Session) -> StoredBook:
    return seed_book(session)


def test_the_first_book_is_in_force_at_once_and_seeding_again_changes_nothing(session: Session) -> None:
    refused("no_rate", lambda: book_at(session, now(session)))
    first = seed_book(session)
    assert seed_book(session).id == first.id
    assert book_at(session, now(session)).book.name == "2026-04-27"
    assert first.sole_admin
    assert [entry.act for entry in list_entries(session)] == ["book.scheduled", "book.approved", "book.drafted"]
    assert first.effective_at is not None
    refused("no_rate", lambda: book_at(session, first.effective_at - TICK))


@pytest.mark.usefixtures("first")
def test_nobody_approves_their_own_book_by_a_key_that_they_gave_out(session: Session) -> None:
    account = create_account(session, "Company")
    roles = [Role.PRICING_AUTHOR, Role.PRICING_APPROVER, Role.OPERATOR]
    ada = add_member(session, account.id, "ada@example.com", roles=roles)
    bob = add_member(session, account.id, "bob@example.com", roles=roles)
    author = Actor.of(caller_by_id(session, ada.id))
    stored = draft_book(session, author, book_text("next"))
    wish = KeyOptions(scopes=("admin",), roles=(Role.PRICING_APPROVER,))

    def approver(giver: str) -> Actor:
        other = create_account(session, "Another")
        _, secret = create_key(session, Actor.of(caller_by_id(session, giver)), other.id, wish)
        return Actor.of(authenticate(session, secret))

    refused("forbidden", lambda: approve_book(session, approver(ada.id), stored.id, content_hash=stored.content_hash))
    approve_book(session, approver(bob.id), stored.id, content_hash=stored.content_hash)
    assert (stored.approver, stored.sole_admin) == (bob.id, False)


def test_a_book_takes_effect_by_time_alone(session: Session, first: StoredBook) -> None:
    stored = approved(session, "next")
    moment = now(session) + HOUR
    schedule_book(session, AUTHOR, stored.id, moment)
    assert stored.state_at(moment - TICK) is PriceDocumentState.SCHEDULED
    assert stored.state_at(moment) is PriceDocumentState.PUBLISHED
    assert book_at(session, moment - TICK).id == first.id
    assert book_at(session, moment).id == stored.id
    assert book_at(session, moment).book.name == "next"
    assert book_by_hash(session, stored.content_hash).id == stored.id
    assert [book.id for book in list_books(session)] == [stored.id, first.id]


@pytest.mark.usefixtures("first")
def test_only_the_right_roles_act(session: Session) -> None:
    refused("forbidden", lambda: draft_book(session, APPROVER, book_text("x")))
    refused("forbidden", lambda: draft_book(session, OPERATOR, book_text("x")))
    stored = draft_book(session, AUTHOR, book_text("x"))
    refused("forbidden", lambda: approve_book(session, AUTHOR, stored.id, content_hash=stored.content_hash))
    refused("forbidden", lambda: schedule_book(session, OPERATOR, stored.id, now(session) + HOUR))
    refused("forbidden", lambda: withdraw_book(session, OPERATOR, stored.id, reason="x"))


@pytest.mark.usefixtures("first")
def test_nobody_approves_their_own_book_while_somebody_else_could(session: Session) -> None:
    company = create_account(session, "Company")
    other, _ = issue_key(session, company.id, scopes=["admin"], roles=["pricing_approver"])
    stored = draft_book(session, ALONE, book_text("x"))
    refused("forbidden", lambda: approve_book(session, ALONE, stored.id, content_hash=stored.content_hash))
    assert approvers(session) == {company.id}
    revoke_key(session, company.id, other.id)
    member = add_member(session, company.id, "zoe@example.com", roles=["pricing_approver"])
    assert approvers(session) == {member.id}
    refused("forbidden", lambda: approve_book(session, ALONE, stored.id, content_hash=stored.content_hash))
    suspend(session, company.id, "left")
    assert approvers(session) == set()
    approve_book(session, ALONE, stored.id, content_hash=stored.content_hash)
    assert stored.sole_admin
    entry = list_entries(session, subject=stored.id)[0]
    assert (entry.act, entry.facts["sole_admin"]) == ("book.approved", True)


@pytest.mark.usefixtures("first")
def test_approval_binds_to_the_text_that_was_read(session: Session) -> None:
    stored = draft_book(session, AUTHOR, book_text("x"))
    seen = stored.content_hash
    edit_book(session, AUTHOR, stored.id, book_text("x", tax="0.09"))
    assert stored.content_hash != seen
    error = refused("conflict", lambda: approve_book(session, APPROVER, stored.id, content_hash=seen))
    assert error.facts["content_hash"] == stored.content_hash
    approve_book(session, APPROVER, stored.id, content_hash=stored.content_hash)
    assert str(stored.book.tax_rate) == "0.09"
    refused("conflict", lambda: edit_book(session, AUTHOR, stored.id, book_text("x")))
    refused("conflict", lambda: approve_book(session, APPROVER, stored.id, content_hash=stored.content_hash))


@pytest.mark.usefixtures("first")
def test_a_draft_is_edited_by_its_author_only(session: Session) -> None:
    stored = draft_book(session, ALONE, book_text("x"))
    other = type(ALONE)("zoe", "key_zoe", ALONE.roles)
    refused("forbidden", lambda: edit_book(session, other, stored.id, book_text("x", tax="0.09")))


@pytest.mark.usefixtures("first")
def test_a_book_whose_examples_fail_can_be_drafted_and_not_approved(session: Session) -> None:
    wrong = book_text("x").replace('total = "4.39"', 'total = "4.40"')
    stored = draft_book(session, AUTHOR, wrong)
    error = refused(
        "invalid_price_book", lambda: approve_book(session, APPROVER, stored.id, content_hash=stored.content_hash)
    )
    assert [problem["path"] for problem in error.facts["problems"]] == ["examples[3]"]
    assert "4.40" in error.facts["problems"][0]["message"]
    session.refresh(stored)
    assert stored.state == "draft"


@pytest.mark.usefixtures("first")
def test_a_book_that_does_not_parse_is_refused_with_every_problem(session: Session) -> None:
    wrong = book_text("x").replace('per_second = "0.90"', "per_second = 0.90").replace("queue_limit = 20\n", "", 1)
    error = refused("invalid_price_book", lambda: draft_book(session, AUTHOR, wrong))
    paths = {problem["path"] for problem in error.facts["problems"]}
    assert paths == {"rates[1].per_second", "memberships[0].queue_limit"}
    assert refused("invalid_price_book", lambda: draft_book(session, AUTHOR, "not toml [")).facts["problems"]
    assert refused("invalid_price_book", lambda: draft_book(session, AUTHOR, book_text("x").replace("CNY", "USD")))


def test_the_text_may_name_what_it_is_based_on_and_then_must_be_right(session: Session, first: StoredBook) -> None:
    for name in (first.id, first.content_hash, "2026-04-27"):
        draft_book(session, AUTHOR, f'based_on = "{name}"\n' + book_text("x"))
    refused("invalid_price_book", lambda: draft_book(session, AUTHOR, 'based_on = "2020"\n' + book_text("x")))


@pytest.mark.usefixtures("first")
def test_a_book_approved_while_another_was_published_is_refused(session: Session) -> None:
    """Two authors start from the same book; the second must look at what the first one published."""
    slow = draft_book(session, AUTHOR, book_text("slow"))
    quick = approved(session, "quick")
    schedule_book(session, APPROVER, quick.id, now(session) + HOUR)
    approve_book(session, APPROVER, slow.id, content_hash=slow.content_hash)
    error = refused("conflict", lambda: schedule_book(session, APPROVER, slow.id, now(session) + 2 * HOUR))
    assert error.facts["newest"] == quick.id
    session.commit()
    session.info["clock_offset"] = 2 * HOUR
    refused("conflict", lambda: schedule_book(session, APPROVER, slow.id, now(session) + HOUR))
    again = approved(session, "slow-again")
    assert again.based_on == quick.id
    schedule_book(session, APPROVER, again.id, now(session) + HOUR)
    assert newest_book(session) is again


def test_two_books_published_at_once_are_not_both_published(engine: Engine) -> None:
    with transaction(engine) as session:
        seed_book(session)
        drafts = [approved(session, f"b{number}").id for number in range(6)]
        moment = now(session)

    def publish(number: int) -> bool:
        try:
            with transaction(engine) as session:
                schedule_book(session, APPROVER, drafts[number], moment + (number + 1) * HOUR)
        except AppError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(publish, range(6))) == 1
    with transaction(engine) as session:
        assert audit_prices(session) == []


def test_the_moment_must_come_and_must_not_be_overtaken(session: Session, first: StoredBook) -> None:
    stored = approved(session, "next")
    for moment in (None, now(session), now(session) - HOUR):
        refused("invalid_request", lambda moment=moment: schedule_book(session, AUTHOR, stored.id, moment))
    schedule_book(session, AUTHOR, stored.id, now(session) + 2 * HOUR)
    later = approved(session, "later")
    error = refused("invalid_request", lambda: schedule_book(session, AUTHOR, later.id, now(session) + HOUR))
    assert "overtaken" in error.message
    assert book_at(session, now(session) + HOUR).id == first.id


def test_a_scheduled_book_can_be_withdrawn_until_it_takes_effect(session: Session, first: StoredBook) -> None:
    stored = approved(session, "next")
    moment = now(session) + HOUR
    schedule_book(session, AUTHOR, stored.id, moment)
    later = approved(session, "later")
    schedule_book(session, AUTHOR, later.id, moment + HOUR)
    assert (
        refused("conflict", lambda: withdraw_book(session, AUTHOR, stored.id, reason="oops")).facts["newest"]
        == later.id
    )
    withdraw_book(session, AUTHOR, later.id, reason="oops")
    refused("conflict", lambda: withdraw_book(session, AUTHOR, later.id, reason="again"))
    assert book_at(session, moment + HOUR).id == stored.id
    session.commit()
    session.info["clock_offset"] = HOUR
    refused("conflict", lambda: withdraw_book(session, AUTHOR, stored.id, reason="too late"))
    refused("conflict", lambda: withdraw_book(session, AUTHOR, first.id, reason="too late"))
    assert book_at(session, moment + HOUR).id == stored.id


def test_the_moment_of_a_withdrawn_book_is_free_again(session: Session, first: StoredBook) -> None:
    moment = now(session) + HOUR
    for name in ("one", "two"):
        stored = approved(session, name)
        schedule_book(session, AUTHOR, stored.id, moment)
        withdraw_book(session, APPROVER, stored.id, reason="drill")
    assert newest_book(session) is first
    draft = draft_book(session, AUTHOR, book_text("three"))
    assert withdraw_book(session, AUTHOR, draft.id, reason="no longer wanted").state == "withdrawn"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM price_books",
        "UPDATE price_books SET toml = 'x' WHERE state = 'scheduled'",
        "UPDATE price_books SET effective_at = now() WHERE state = 'scheduled'",
        "UPDATE price_books SET state = 'draft' WHERE state = 'approved'",
        "UPDATE price_books SET author = 'bob'",
        "UPDATE price_books SET approver = author, sole_admin = false WHERE state = 'draft'",
        "UPDATE price_books SET state = 'published' WHERE state = 'approved'",
        "UPDATE price_books SET state = 'approved' WHERE state = 'withdrawn'",
        "DELETE FROM audit_entries",
        "UPDATE audit_entries SET actor = 'nobody'",
    ],
)
@pytest.mark.usefixtures("first")
def test_the_database_refuses_changes_to_books_and_audit_log(session: Session, statement: str) -> None:
    draft_book(session, AUTHOR, book_text("draft"))
    approved(session, "approved")
    withdraw_book(session, AUTHOR, approved(session, "gone").id, reason="drill")
    with pytest.raises(IntegrityError), session.begin_nested():
        session.execute(text(statement))
    assert audit_prices(session) == []


@pytest.mark.usefixtures("first")
def test_the_audit_detects_a_rewritten_text_and_a_broken_audit_log(session: Session) -> None:
    approved(session, "next")
    assert audit_prices(session) == []
    session.execute(text("ALTER TABLE price_books DISABLE TRIGGER ALL"))
    session.execute(text("ALTER TABLE audit_entries DISABLE TRIGGER ALL"))
    session.execute(text("UPDATE price_books SET toml = replace(toml, '1.60', '1.61') WHERE state = 'approved'"))
    session.execute(text("UPDATE price_books SET toml = 'broken' WHERE state = 'scheduled'"))
    session.execute(text("UPDATE audit_entries SET actor = 'nobody' WHERE act = 'book.scheduled'"))
    session.expire_all()
    bent = ["price_text_has_its_hash", "price_text_has_its_hash", "audit_trail_is_unbroken"]
    assert [finding.rule for finding in audit_prices(session)] == bent
    session.execute(text("DELETE FROM audit_entries WHERE act = 'book.scheduled'"))
    assert [finding.rule for finding in audit_prices(session)] == bent


def test_concurrent_actions_leave_one_unbroken_audit_log(engine: Engine) -> None:
    with transaction(engine) as session:
        seed_book(session)

    def write(number: int) -> None:
        with transaction(engine) as session:
            draft_book(session, AUTHOR, book_text(f"b{number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(16)))
    with transaction(engine) as session:
        assert len(list_entries(session)) == 19
        assert audit_prices(session) == []
