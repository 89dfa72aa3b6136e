"""API keys: their format, authentication, and which rights they can pass on."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.accounts.accounts import create_account, reinstate, suspend
from app.accounts.caller import Caller, require_active
from app.accounts.key_format import new_key, parse_key_id
from app.accounts.keys import authenticate, get_key, issue_key, list_keys, revoke_key, rotate_key
from app.accounts.members import add_member
from app.accounts.projects import create_project
from app.accounts.tables import ApiKey
from app.clock import now
from app.errors import AppError
from app.roles import require_role, require_scope


def refused(session: Session, secret: str) -> None:
    with pytest.raises(AppError) as caught:
        authenticate(session, secret)
    assert caught.value.code == "unauthenticated"


@pytest.mark.parametrize("test", [False, True])
def test_a_key_is_spelled_so_that_a_mistyped_one_is_known_without_the_database(test: bool) -> None:
    key = new_key(test=test)
    assert key.secret.startswith(f"cm_{'test' if test else 'live'}_{key.keyid}_")
    assert parse_key_id(key.secret) == key.keyid
    assert key.last4 == key.secret[-4:]
    for place in range(len(key.secret)):
        other = "b" if key.secret[place] == "a" else "a"
        assert parse_key_id(key.secret[:place] + other + key.secret[place + 1 :]) is None
    assert parse_key_id(key.secret[:-1]) is None
    assert parse_key_id(key.secret + "\n") is None
    assert parse_key_id("") is None


def test_a_key_authenticates_its_account_and_only_its_hash_is_stored(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    project = create_project(session, account.id, "trailers")
    key, secret = issue_key(session, account.id, scopes=["billing", "videos"], project_id=project.id, name="render")
    caller = authenticate(session, secret)
    assert (caller.account_id, caller.project_id, caller.key_id) == (account.id, project.id, key.id)
    assert caller.scopes == {"videos", "billing"}
    assert not caller.test
    row = session.execute(select(ApiKey.__table__)).mappings().one()
    assert secret not in str(row)
    assert secret[17:60] not in str(row)


def test_a_revoked_an_expired_and_a_foreign_secret_read_the_same(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    key, secret = issue_key(session, account.id, scopes=["videos"])
    late, late_secret = issue_key(session, account.id, scopes=["videos"], expires_at=now(session) + timedelta(hours=1))
    assert authenticate(session, late_secret).key_id == late.id
    refused(session, new_key(test=False).secret)
    revoke_key(session, account.id, key.id)
    revoke_key(session, account.id, key.id)
    refused(session, secret)
    session.commit()
    session.info["clock_offset"] = timedelta(hours=1)
    refused(session, late_secret)
    assert [known.id for known in list_keys(session, account.id)]


def test_a_key_is_found_by_its_id_and_checked_by_its_secret(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    _, secret = issue_key(session, account.id, scopes=["videos"])
    forged = new_key(test=False)
    session.execute(ApiKey.__table__.update().values(keyid=forged.keyid))
    session.expire_all()
    refused(session, forged.secret)
    refused(session, secret)


def test_use_is_noted_once_a_minute(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    key, secret = issue_key(session, account.id, scopes=["videos"])
    session.commit()
    seen = []
    for seconds in (0, 30, 90):
        session.info["clock_offset"] = timedelta(seconds=seconds)
        authenticate(session, secret)
        session.commit()
        session.refresh(key)
        seen.append(key.last_used_at)
    assert seen[0] is not None
    assert seen[1] == seen[0]
    assert seen[2] is not None
    assert seen[2] - seen[0] >= timedelta(seconds=89)


def test_requests_of_one_key_do_not_wait_for_each_other(engine: Engine) -> None:
    with Session(engine) as session:
        account_id = create_account(session, "Studio Wu").id
        _, secret = issue_key(session, account_id, scopes=["videos"])
        session.commit()

    def ask() -> str:
        with Session(engine) as session:
            return authenticate(session, secret).account_id

    # The first request is still open, with the note of the key's use in it, while the others are answered.
    with Session(engine) as first, ThreadPoolExecutor(4) as pool:
        authenticate(first, secret)
        assert {future.result(timeout=20) for future in [pool.submit(ask) for _ in range(4)]} == {account_id}


def test_rotation_overlaps_and_keeps_rights_and_budget(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    old, old_secret = issue_key(session, account.id, scopes=["videos"], budget_total=5000, job_cap=700)
    fresh, secret = rotate_key(session, account.id, old.id, overlap=timedelta(hours=2))
    assert (fresh.scopes, fresh.budget_total, fresh.job_cap) == (old.scopes, 5000, 700)
    assert fresh.lineage == old.lineage == old.id
    assert authenticate(session, secret).key_id == fresh.id
    assert authenticate(session, old_secret).key_id == old.id
    with pytest.raises(AppError) as caught:
        rotate_key(session, account.id, old.id, overlap=timedelta(0))
    assert caught.value.code == "conflict"
    session.commit()
    session.info["clock_offset"] = timedelta(hours=2)
    refused(session, old_secret)
    assert authenticate(session, secret).key_id == fresh.id


def test_another_tenants_key_project_and_rotation_are_not_found(session: Session) -> None:
    mine, theirs = create_account(session, "Mine"), create_account(session, "Theirs")
    key, _ = issue_key(session, theirs.id, scopes=["videos"])
    project = create_project(session, theirs.id, "secret")
    for act in (
        lambda: get_key(session, mine.id, key.id),
        lambda: revoke_key(session, mine.id, key.id),
        lambda: rotate_key(session, mine.id, key.id, overlap=timedelta(0)),
        lambda: issue_key(session, mine.id, scopes=["videos"], project_id=project.id),
    ):
        with pytest.raises(AppError) as caught:
            act()
        assert caught.value.code == "not_found"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"scopes": ["videos"], "roles": ["operator"]}, "roles"),
        ({"scopes": ["admin"], "roles": ["emperor"]}, "roles"),
        ({"scopes": ["admin"], "test": True}, "scopes"),
        ({"scopes": ["videos"], "job_cap": -1}, "job_cap"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_by_field(session: Session, wrong: dict, field: str) -> None:
    account = create_account(session, "Studio Wu")
    with pytest.raises(AppError) as caught:
        issue_key(session, account.id, **wrong)
    assert (caught.value.code, caught.value.field) == ("invalid_request", field)


def test_a_test_account_has_test_keys_only(session: Session) -> None:
    account = create_account(session, "Drill", test=True)
    with pytest.raises(AppError):
        issue_key(session, account.id, scopes=["videos"])
    _, secret = issue_key(session, account.id, scopes=["videos"], test=True)
    assert authenticate(session, secret).test


def test_nobody_grants_rights_that_they_lack(session: Session) -> None:
    account = create_account(session, "House")
    _, secret = issue_key(session, account.id, scopes=["admin", "videos"], roles=["pricing_author"])
    author = authenticate(session, secret)
    issue_key(session, account.id, scopes=["admin"], roles=["pricing_author"], giver=author)
    for scopes, roles in ((["admin"], ["pricing_approver"]), (["billing"], [])):
        with pytest.raises(AppError) as caught:
            issue_key(session, account.id, scopes=scopes, roles=roles, giver=author)
        assert caught.value.code == "forbidden"


def test_scopes_and_roles_are_asked_for_by_name(session: Session) -> None:
    account = create_account(session, "House")
    _, secret = issue_key(session, account.id, scopes=["admin"], roles=["operator"])
    caller = authenticate(session, secret)
    require_scope(caller, "admin")
    require_role(caller, "operator", "owner")
    with pytest.raises(AppError, match="scope billing"):
        require_scope(caller, "billing")
    with pytest.raises(AppError, match="role pricing_author or pricing_approver"):
        require_role(caller, "pricing_author", "pricing_approver")


def test_the_person_behind_a_key_is_its_member_or_its_account(session: Session) -> None:
    account = create_account(session, "House")
    member = add_member(session, account.id, "ada@example.com", roles=["pricing_author"])
    callers: list[Caller] = []
    for member_id in (member.id, None, None):
        _, secret = issue_key(session, account.id, scopes=["videos"], member_id=member_id)
        callers.append(authenticate(session, secret))
    assert [caller.person for caller in callers] == [member.id, account.id, account.id]


def test_a_suspended_account_may_read_and_make_nothing_new(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    _, secret = issue_key(session, account.id, scopes=["videos"])
    suspend(session, account.id, "unpaid")
    caller = authenticate(session, secret)
    with pytest.raises(AppError) as caught:
        require_active(caller)
    assert (caught.value.code, caught.value.facts["reason"]) == ("account_suspended", "unpaid")
    reinstate(session, account.id)
    require_active(authenticate(session, secret))
