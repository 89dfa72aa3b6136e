"""A member is erased while the account goes on, and so is the sender of a report."""

import pytest
from sqlalchemy import select, text, update

from app.accounts.keys import issue_key
from app.accounts.members import add_member, remove_member, set_roles
from app.accounts.tables import Account, ApiKey, Member
from app.admin.accounts import invite_member, suspend_account
from app.admin.erasures import erase_subject, plan_erasure
from app.audit_log.actor import Actor
from app.audit_log.log import list_entries
from app.audit_log.values import ERASED, shown_facts
from app.clock import now
from app.db import Base, transaction
from app.erasure.tables import ErasureKind
from app.errors import AppError
from app.reports.audit import audit_books
from app.roles import ADMIN_ROLES
from app.takedowns.decide import keep_film
from app.takedowns.reports import ReportForm, submit_report
from app.takedowns.tables import ContentReport
from app.wallet.funds import correct
from app.web.tables import WebSession
from tests.api_client import World

OPERATOR = Actor("member_operator", "page", frozenset(ADMIN_ROLES))
EMAIL, NAME = "zephyrine@example.com", "Zephyrine Wu"


def rows_with(word: str) -> list[str]:
    with transaction() as session:
        return [
            table.name
            for table in Base.metadata.sorted_tables
            if session.scalar(text(f"SELECT true FROM {table.name} AS t WHERE t::text ILIKE '%{word}%' LIMIT 1"))
        ]


def erase(kind: ErasureKind, subject_id: str) -> None:
    list(erase_subject(OPERATOR, kind, subject_id))


@pytest.fixture
def member_id(world: World) -> str:
    """A member of Alice's account, and what the service has of that person."""
    account_id = world.alice_id
    with transaction() as session:
        add_member(session, account_id, "boss@example.com", roles=("owner",), password="a long pass", name="Boss")
        former = add_member(session, world.bob_id, EMAIL, roles=("creator",), password="a long pass", name=NAME)
        add_member(session, world.bob_id, "bob@example.com", roles=("owner",), password="a long pass")
        remove_member(session, world.bob_id, former.id)
        invite_member(session, OPERATOR, account_id, EMAIL, ("creator",))
        member = add_member(session, account_id, EMAIL, roles=("creator", "owner"), password="a long pass", name=NAME)
        moment = now(session)
        session.add(
            WebSession(
                id="a" * 64,
                member_id=member.id,
                created_at=moment,
                seen_at=moment,
                proved_at=moment,
                expires_at=moment,
            )
        )
        key, _ = issue_key(session, account_id, scopes=("videos",), name=f"{NAME}'s laptop")
        session.execute(update(ApiKey).where(ApiKey.id == key.id).values(member_id=member.id))
        suspend_account(session, OPERATOR, account_id, f"{NAME} asked for it")
        correct(session, account_id, 5, reference="gift", reason=f"a gift for {EMAIL}")
        correct(session, account_id, 5, reference="other", reason="a gift for Boss")
        return member.id


def test_a_member_is_erased_and_the_account_goes_on(world: World, member_id: str) -> None:
    assert {"members", "invitations", "api_keys", "transfers", "audit_values"} <= set(rows_with("zephyrine"))
    with transaction() as session:
        plan = plan_erasure(session, OPERATOR, ErasureKind.MEMBER, member_id)
    assert {line.what: line.rows for line in plan.goes}["member: address, name, password"] == 2
    erase(ErasureKind.MEMBER, member_id)
    assert rows_with("zephyrine") == []
    with transaction() as session:
        assert audit_books(session) == []
        assert session.scalars(select(WebSession)).all() == []
        member = session.get_one(Member, member_id)
        assert (member.password_hash, member.removed_at is not None) == (None, True)
        entries = list_entries(session, act="account.suspended")
        assert [shown_facts(session, entries)[each.number] for each in entries] == [{"reason": ERASED}]
        assert "a gift for Boss" in rows_of_reasons(session)
        assert session.get_one(Account, world.alice_id).name == "Alice"
    assert world.get("/v1/videos").status_code == 200
    # Once more, as after a restore.
    erase(ErasureKind.MEMBER, member_id)
    with transaction() as session:
        assert audit_books(session) == []
        # The address may be used again.
        add_member(session, world.alice_id, EMAIL, roles=("creator",))


def rows_of_reasons(session: object) -> list[str]:
    return list(session.scalars(text("SELECT reason FROM transfers")))  # type: ignore[attr-defined]


def test_the_last_owner_is_not_erased_alone(world: World, member_id: str) -> None:
    with transaction() as session:
        for member in session.scalars(select(Member).where(Member.email == "boss@example.com")):
            set_roles(session, world.alice_id, member.id, ["creator"])
    with pytest.raises(AppError, match="keeps at least one owner"):
        erase(ErasureKind.MEMBER, member_id)
    assert "members" in rows_with("zephyrine")


def test_an_earlier_row_of_a_person_has_the_rules_of_the_active_one(world: World, member_id: str) -> None:
    with transaction() as session:
        former = session.scalars(select(Member.id).where(Member.email == EMAIL, Member.id != member_id)).one()
    with pytest.raises(AppError, match="your own account or person"):
        list(erase_subject(Actor(member_id, "page", frozenset(ADMIN_ROLES)), ErasureKind.MEMBER, former))
    with transaction() as session:
        for member in session.scalars(select(Member).where(Member.email == "boss@example.com")):
            set_roles(session, world.alice_id, member.id, ["creator"])
    with pytest.raises(AppError, match="keeps at least one owner"):
        erase(ErasureKind.MEMBER, former)
    with transaction() as session:
        assert session.get_one(Member, member_id).email == EMAIL


def test_the_sender_of_a_report_is_erased_after_the_decision(world: World) -> None:
    form = ReportForm("copyright", "somewhere", "It is Zephyrine's.", "Zephyrine", EMAIL, is_truthful=True)
    with transaction() as session:
        report_id = submit_report(session, form).id
    with pytest.raises(AppError, match="Decide this report first"):
        erase(ErasureKind.REPORT, report_id)
    with transaction() as session:
        keep_film(session, OPERATOR, report_id, reason="it leads nowhere")
    erase(ErasureKind.REPORT, report_id)
    assert rows_with("zephyrine") == []
    with transaction() as session:
        assert session.get_one(ContentReport, report_id).state == "kept"
        assert audit_books(session) == []
