"""Members: signing in, invitations that open once, and an account that never loses its last owner."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts.accounts import create_account
from app.accounts.invitations import accept_invitation, create_invitation, list_invitations, withdraw_invitation
from app.accounts.keys import authenticate, issue_key
from app.accounts.members import (
    add_member,
    caller_by_id,
    list_members,
    remove_member,
    set_password,
    set_roles,
    sign_in,
    sign_up,
)
from app.errors import AppError
from app.settings import get_settings

PASSWORD = "a long enough one"


def code_of(act: object) -> str:
    with pytest.raises(AppError) as caught:
        act()  # type: ignore[operator]
    return caught.value.code


def test_a_member_signs_in_with_the_right_password_only(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    member = add_member(session, account.id, " Ada@Example.com ", roles=["owner", "creator"], password=PASSWORD)
    assert member.email == "ada@example.com"
    assert PASSWORD not in (member.password_hash or "")
    caller = sign_in(session, "ADA@example.com", PASSWORD)
    assert (caller.account_id, caller.member_id, caller.via) == (account.id, member.id, "session")
    assert caller.scopes == {"videos", "billing", "webhooks"}
    assert caller_by_id(session, member.id).roles == {"owner", "creator"}
    assert code_of(lambda: sign_in(session, "ada@example.com", PASSWORD + " ")) == "unauthenticated"
    assert code_of(lambda: sign_in(session, "bob@example.com", PASSWORD)) == "unauthenticated"
    set_password(session, account.id, member.id, "another long one")
    assert code_of(lambda: sign_in(session, "ada@example.com", PASSWORD)) == "unauthenticated"


def test_keys_end_with_the_roles_that_they_carry(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    member = add_member(session, account.id, "ada@example.com", roles=["pricing_author", "pricing_approver", "owner"])
    add_member(session, account.id, "bob@example.com", roles=["owner"])

    def key(*roles: str, **whose: str) -> str:
        return issue_key(session, account.id, scopes=["admin"], roles=roles, **whose)[1]

    author, approver = (key(role, member_id=member.id) for role in ("pricing_author", "pricing_approver"))
    issued = key("pricing_approver", issued_by=member.id)
    plain = issue_key(session, account.id, scopes=["videos"], member_id=member.id)[1]
    assert authenticate(session, issued).person == member.id
    set_roles(session, account.id, member.id, ["pricing_author"])
    assert authenticate(session, author).roles == {"pricing_author"}
    for ended in (approver, issued):
        assert code_of(lambda secret=ended: authenticate(session, secret)) == "unauthenticated"
    remove_member(session, account.id, member.id)
    assert code_of(lambda: authenticate(session, author)) == "unauthenticated"
    assert authenticate(session, plain).account_id == account.id


def test_a_member_without_a_password_cannot_sign_in(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    add_member(session, account.id, "ada@example.com", roles=["owner"])
    assert code_of(lambda: sign_in(session, "ada@example.com", "")) == "unauthenticated"


@pytest.mark.parametrize("password", ["short", "x" * 1025])
def test_a_password_has_a_length(session: Session, password: str) -> None:
    account = create_account(session, "Studio Wu")
    assert code_of(lambda: add_member(session, account.id, "a@b.cn", roles=[], password=password)) == "invalid_request"


@pytest.mark.parametrize(
    "email", ["", "ada", "@example.com", "ada@", "ada@host", "a da@example.com", "a" * 250 + "@b.cn"]
)
def test_what_is_no_address_is_refused(session: Session, email: str) -> None:
    account = create_account(session, "Studio Wu")
    assert code_of(lambda: add_member(session, account.id, email, roles=["owner"])) == "invalid_request"


def test_one_address_signs_in_to_one_account(session: Session) -> None:
    first, second = create_account(session, "First"), create_account(session, "Second")
    member = add_member(session, first.id, "ada@example.com", roles=["creator"])
    assert code_of(lambda: add_member(session, second.id, "Ada@example.com", roles=["owner"])) == "conflict"
    remove_member(session, first.id, member.id)
    assert add_member(session, second.id, "ada@example.com", roles=["owner"]).account_id == second.id


def test_an_account_keeps_an_owner(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    ada = add_member(session, account.id, "ada@example.com", roles=["owner"])
    bob = add_member(session, account.id, "bob@example.com", roles=["owner"])
    set_roles(session, account.id, ada.id, ["creator"])
    assert code_of(lambda: set_roles(session, account.id, bob.id, ["creator"])) == "conflict"
    assert code_of(lambda: remove_member(session, account.id, bob.id)) == "conflict"
    remove_member(session, account.id, ada.id)
    assert [member.id for member in list_members(session, account.id)] == [bob.id]


def test_two_owners_cannot_demote_each_other_at_once(engine: Engine) -> None:
    with Session(engine, expire_on_commit=False) as session:
        account = create_account(session, "Studio Wu")
        owners = [add_member(session, account.id, f"{name}@example.com", roles=["owner"]) for name in ("ada", "bob")]
        session.commit()

    def demote(member_id: str) -> bool:
        with Session(engine) as session:
            try:
                set_roles(session, account.id, member_id, ["creator"])
            except AppError:
                return False
            session.commit()
            return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(demote, [owner.id for owner in owners])) == [False, True]


def test_keys_with_roles_end_with_their_member_and_plain_keys_stay(session: Session) -> None:
    account = create_account(session, "House")
    add_member(session, account.id, "own@example.com", roles=["owner"])
    member = add_member(session, account.id, "ada@example.com", roles=["operator"])
    _, plain = issue_key(session, account.id, scopes=["videos"], member_id=member.id)
    _, strong = issue_key(session, account.id, scopes=["admin"], roles=["operator"], member_id=member.id)
    remove_member(session, account.id, member.id)
    session.expire_all()
    assert authenticate(session, plain).account_id == account.id
    assert code_of(lambda: authenticate(session, strong)) == "unauthenticated"
    assert code_of(lambda: caller_by_id(session, member.id)) == "unauthenticated"


def test_an_owner_invites_creators_and_owners_but_no_admins(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    owner = caller_by_id(session, add_member(session, account.id, "ada@example.com", roles=["owner"]).id)
    create_invitation(session, account.id, "bob@example.com", roles=["creator"], by=owner.person, giver=owner)
    create_invitation(session, account.id, "eve@example.com", roles=["owner"], by=owner.person, giver=owner)
    for role in ("operator", "pricing_author", "pricing_approver"):
        code = code_of(
            lambda role=role: create_invitation(
                session, account.id, "x@example.com", roles=[role], by=owner.person, giver=owner
            )
        )
        assert code == "forbidden"


def test_an_invitation_is_accepted_once(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    invitation, token = create_invitation(session, account.id, "Bob@example.com", roles=["creator"], by="operator")
    assert token not in invitation.token_hash
    member = accept_invitation(session, token, PASSWORD, name="Bob")
    assert (member.account_id, member.email, member.roles) == (account.id, "bob@example.com", ["creator"])
    assert code_of(lambda: accept_invitation(session, token, PASSWORD)) == "not_found"
    assert code_of(lambda: withdraw_invitation(session, account.id, invitation.id)) == "not_found"
    assert sign_in(session, "bob@example.com", PASSWORD).member_id == member.id


def test_an_invitation_ends_by_time_or_by_being_taken_back(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    _, late = create_invitation(session, account.id, "late@example.com", roles=["creator"], by="operator")
    back, withdrawn = create_invitation(session, account.id, "back@example.com", roles=["creator"], by="operator")
    assert code_of(lambda: withdraw_invitation(session, "acct_other", back.id)) == "not_found"
    withdraw_invitation(session, account.id, back.id)
    assert code_of(lambda: accept_invitation(session, withdrawn, PASSWORD)) == "not_found"
    assert [known.email for known in list_invitations(session, account.id)] == ["late@example.com"]
    session.commit()
    session.info["clock_offset"] = timedelta(days=7)
    assert code_of(lambda: accept_invitation(session, late, PASSWORD)) == "not_found"
    assert list_invitations(session, account.id) == []


def test_visitors_sign_up_only_where_it_is_open(session: Session) -> None:
    assert code_of(lambda: sign_up(session, "new@example.com", PASSWORD, name="New")) == "forbidden"


def test_a_visitor_who_signs_up_owns_a_new_account(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CINEMETER_SIGNUP", "open")
    get_settings.cache_clear()
    try:
        member = sign_up(session, "new@example.com", PASSWORD, name="New")
    finally:
        get_settings.cache_clear()
    caller = sign_in(session, "new@example.com", PASSWORD)
    assert (caller.member_id, caller.account.name, caller.roles) == (member.id, "New", {"owner", "creator"})
