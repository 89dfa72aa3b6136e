"""Memberships are half-open periods; accounts and projects are refused by field."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts.accounts import create_account, get_account, list_accounts, set_limits
from app.accounts.billing_periods import billing_month, month_window
from app.accounts.memberships import (
    change_membership,
    end_membership,
    grant_membership,
    list_periods,
    membership_at,
)
from app.accounts.projects import archive_project, create_project, get_project, list_projects, set_budget
from app.clock import now
from app.errors import AppError

TICK = timedelta(microseconds=1)


def test_a_period_holds_from_its_first_instant_up_to_its_end(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    start = now(session)
    end = start + timedelta(days=30)
    grant_membership(session, account.id, "professional", starts_at=start, ends_at=end)
    names = [membership_at(session, account.id, at) for at in (start - TICK, start, end - TICK, end)]
    assert names == ["free", "professional", "professional", "free"]


def test_periods_may_touch_and_may_not_overlap(session: Session) -> None:
    account, other = create_account(session, "Studio Wu"), create_account(session, "Studio Li")
    start = now(session)
    end = start + timedelta(days=30)
    grant_membership(session, account.id, "professional", starts_at=start, ends_at=end)
    grant_membership(session, account.id, "studio", starts_at=end)
    grant_membership(session, other.id, "studio", starts_at=start)
    for lower, upper in (
        (start - TICK, start + TICK),
        (end - TICK, end),
        (end, None),
        (start + TICK, start + 2 * TICK),
    ):
        with pytest.raises(AppError) as caught:
            grant_membership(session, account.id, "free", starts_at=lower, ends_at=upper)
        assert caught.value.code == "conflict"
    with pytest.raises(AppError) as caught:
        grant_membership(session, account.id, "free", starts_at=start, ends_at=start)
    assert caught.value.code == "invalid_request"
    assert [period.name for period in list_periods(session, account.id)] == ["professional", "studio"]


def test_two_admins_at_once_give_one_membership(engine: Engine) -> None:
    with Session(engine) as session:
        account_id = create_account(session, "Studio Wu").id
        start = now(session)
        session.commit()

    def grant(name: str) -> bool:
        with Session(engine) as session:
            try:
                grant_membership(session, account_id, name, starts_at=start)
            except AppError:
                return False
            session.commit()
            return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(grant, [f"name{index}" for index in range(8)])) == 1


def test_a_change_ends_one_membership_where_the_next_begins(session: Session) -> None:
    account = create_account(session, "Studio Wu")
    start = now(session)
    later = start + timedelta(days=3)
    change_membership(session, account.id, "professional", at=start)
    change_membership(session, account.id, "studio", at=later)
    assert membership_at(session, account.id, later - TICK) == "professional"
    assert membership_at(session, account.id, later) == "studio"
    change_membership(session, account.id, "enterprise", at=later)
    assert [period.name for period in list_periods(session, account.id)] == ["professional", "enterprise"]
    end_membership(session, account.id, later + TICK)
    assert membership_at(session, account.id, later + TICK) == "free"
    assert end_membership(session, account.id, later + TICK) is None
    with pytest.raises(AppError) as caught:
        end_membership(session, account.id, start - TICK)
    assert caught.value.code == "invalid_request"


def test_a_billing_month_is_the_zones_own() -> None:
    edge = datetime(2026, 4, 30, 16, 0, tzinfo=UTC)
    assert billing_month("Asia/Shanghai", edge - TICK) == "2026-04"
    assert billing_month("Asia/Shanghai", edge) == "2026-05"
    assert billing_month("UTC", edge) == "2026-04"
    start, end = month_window("Asia/Shanghai", "2026-12")
    assert start == datetime(2026, 11, 30, 16, 0, tzinfo=UTC)
    assert end == datetime(2026, 12, 31, 16, 0, tzinfo=UTC)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(["Asia/Shanghai", "America/New_York", "Europe/Berlin", "UTC", "Pacific/Apia"]),
)
def test_every_instant_lies_in_the_window_of_its_month(at: datetime, zone: str) -> None:
    start, end = month_window(zone, billing_month(zone, at))
    assert start <= at < end


@pytest.mark.parametrize("month", ["2026-13", "2026", "May", "", "9999-12"])
def test_what_is_no_month_is_refused(month: str) -> None:
    with pytest.raises(AppError) as caught:
        month_window("UTC", month)
    assert caught.value.field == "month"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"name": " "}, "name"), ({"kind": "barter"}, "kind"), ({"billing_zone": "Mars/Base"}, "billing_zone")],
)
def test_an_account_that_makes_no_sense_is_refused_by_field(session: Session, wrong: dict, field: str) -> None:
    with pytest.raises(AppError) as caught:
        create_account(session, **{"name": "Studio Wu", **wrong})
    assert (caught.value.code, caught.value.field) == ("invalid_request", field)


def test_accounts_are_listed_and_limited(session: Session) -> None:
    accounts = sorted(create_account(session, name).id for name in ("a", "b", "c"))
    assert [account.id for account in list_accounts(session, limit=2)] == accounts[:2]
    assert [account.id for account in list_accounts(session, after=accounts[1])] == accounts[2:]
    assert set_limits(session, accounts[0], concurrency=3, queue_limit=0).concurrency == 3
    for wrong in ({"concurrency": 0, "queue_limit": None}, {"concurrency": None, "queue_limit": -1}):
        with pytest.raises(AppError):
            set_limits(session, accounts[0], **wrong)
    with pytest.raises(AppError) as caught:
        get_account(session, "acct_nobody")
    assert caught.value.code == "not_found"


def test_projects_belong_to_one_account_and_are_found_by_id_or_name(session: Session) -> None:
    account, other = create_account(session, "Studio Wu"), create_account(session, "Studio Li")
    project = create_project(session, account.id, "trailers", budget_month=10_000)
    create_project(session, other.id, "trailers")
    assert get_project(session, account.id, "trailers").id == get_project(session, account.id, project.id).id
    with pytest.raises(AppError) as caught:
        create_project(session, account.id, "trailers")
    assert caught.value.code == "conflict"
    with pytest.raises(AppError) as caught:
        get_project(session, other.id, project.id)
    assert caught.value.code == "not_found"
    assert set_budget(session, account.id, project.id, None).budget_month is None
    with pytest.raises(AppError):
        set_budget(session, account.id, project.id, -1)
    archive_project(session, account.id, project.id)
    assert list_projects(session, account.id) == []
    assert create_project(session, account.id, "trailers").id != project.id
