"""An order whose free seconds another request uses meanwhile is priced again."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.jobs import submit as submit_module
from app.jobs.tables import Job
from app.prices.reservations import PriceUse, ReservationConflict, reserve_by
from app.reports.audit import audit_books
from tests.ledger_simulation import Line


@pytest.fixture
def line(engine: Engine, redis_url: str) -> Iterator[Line]:
    with Session(engine, expire_on_commit=False) as session:
        yield Line(session)


def conflicts(monkeypatch: pytest.MonkeyPatch, times: int) -> list[str]:
    """Let the first reservations meet another request's; return the jobs that reserve."""
    jobs: list[str] = []

    def reserve(session: Session, account_id: str, uses: dict[str, PriceUse], **terms: Any) -> None:
        jobs.extend(uses)
        if len(jobs) <= times:
            raise ReservationConflict("Free seconds")
        reserve_by(session, account_id, uses, **terms)

    monkeypatch.setattr(submit_module, "reserve_by", reserve)
    return jobs


@pytest.mark.parametrize("times", [1, 2])
def test_an_order_whose_reservation_conflicts_is_made_once(
    line: Line, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    caller = line.open(membership="studio")
    jobs = conflicts(monkeypatch, times)
    job = line.order(caller, seconds=2)
    assert len(jobs) == times + 1
    assert line.session.scalars(select(Job.id)).all() == [job.id]
    line.work()
    assert line.session.get_one(Job, job.id, populate_existing=True).state == "completed"
    assert audit_books(line.session) == []


def test_an_order_whose_reservation_conflicts_again_and_again_is_refused(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = line.open(membership="studio")
    conflicts(monkeypatch, 100)
    with pytest.raises(ReservationConflict):
        line.order(caller, seconds=2)
    line.session.rollback()
    assert line.session.scalars(select(Job.id)).all() == []
    assert audit_books(line.session) == []
