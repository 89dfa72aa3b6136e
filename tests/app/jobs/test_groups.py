"""Orders of several films: all or none, each a job with a receipt of its own, and the group ends once."""

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from app.errors import AppError
from app.events.tables import Event
from app.jobs.cancel import request_cancel
from app.jobs.find import find_job
from app.jobs.group_tables import Group
from app.jobs.groups import find_group, jobs_of
from app.jobs.open_quotes import expire_quote, quotes_past_expiry
from app.jobs.spec import Spec
from app.jobs.tables import Job, Quote
from app.prices.tables import FreeUse, Reservation
from app.wallet.balance import balance
from app.wallet.tables import Hold
from tests.app.jobs.test_at_once import at_once
from tests.ledger_simulation import Line


@pytest.fixture
def line(session: Session) -> Line:
    return Line(session)


def seeds(jobs: list[Job]) -> list[int]:
    return [Spec.model_validate(job.spec).seed for job in jobs]


def group_of(line: Line, job: Job) -> list[Job]:
    assert job.group_id is not None
    return jobs_of(line.session, job.group_id)


def ends(line: Line) -> list[dict[str, object]]:
    return [
        json.loads(body)["data"] for body in line.session.scalars(select(Event.body).where(Event.type == "group.ended"))
    ]


def test_several_films_are_jobs_with_seeds_holds_and_receipts_of_their_own(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, seconds=2, n=3, seed=2**31 - 2)
    jobs = group_of(line, job)
    assert jobs[0].id == job.id
    assert seeds(jobs) == [2**31 - 2, 2**31 - 1, 0]
    assert line.session.scalar(select(Group.unfinished)) == 3
    assert balance(line.session, alice.account_id).held == sum(each.total for each in jobs) == 3 * 88
    line.check()
    line.work()
    assert [line.receipt(each.id).total for each in jobs] == [88, 88, 88]
    [ended] = ends(line)
    assert (ended["counts"], ended["charged"], ended["total"]) == ({"completed": 3}, "2.64", "2.64")
    assert [video["seed"] for video in ended["videos"]] == [2**31 - 2, 2**31 - 1, 0]
    line.check()


def test_seeds_may_be_listed_and_must_fit(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, seconds=1, seeds=[9, 3])
    assert seeds(group_of(line, job)) == [9, 3]
    assert line.order(alice, seconds=1, n=1).group_id is None
    for fields, field in (
        ({"seeds": [1, 2], "seed": 1}, "seed"),
        ({"seeds": [1, 2], "n": 3}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
    ):
        with pytest.raises(AppError) as refused:
            line.order(alice, seconds=1, **fields)
        assert (refused.value.code, refused.value.field) == ("invalid_request", field)


def test_a_group_is_ordered_as_a_whole_or_not_at_all(line: Line) -> None:
    alice = line.open(credit=88 * 3 - 1)
    with pytest.raises(AppError) as refused:
        line.order(alice, seconds=2, n=3)
    assert refused.value.code == "insufficient_funds"
    assert refused.value.facts["price"] == "2.64"
    with pytest.raises(AppError) as refused:
        line.order(alice, seconds=2, n=3, max_price="2.63")
    assert (refused.value.code, refused.value.field) == ("price_above_cap", "max_price")
    assert line.session.scalars(select(Job)).all() == line.session.scalars(select(Hold)).all() == []
    assert line.session.scalars(select(Group)).all() == []
    assert line.order(alice, seconds=2, n=2).group_id is not None
    line.check()


def test_the_queue_has_room_for_all_or_for_none(line: Line) -> None:
    alice = line.open()
    line.session.get_one(type(alice.account), alice.account_id).queue_limit = 3
    line.session.commit()
    line.order(alice, seconds=1, n=2)
    with pytest.raises(AppError) as refused:
        line.order(alice, seconds=1, n=2)
    assert (refused.value.code, refused.value.facts["allowed"]) == ("queue_full", 3)
    line.order(alice, seconds=1)
    line.check()


def test_free_seconds_are_shared_among_the_films_in_their_order(line: Line) -> None:
    alice = line.open(membership="studio")
    # The membership has a minute a month, so the third film has twenty seconds of it, and the fourth none.
    quote = line.quote(alice, seconds=20, n=4)
    job = line.order(alice, seconds=20, n=4, seed=quote.spec["seed"], quote_id=quote.id)
    jobs = group_of(line, job)
    assert [each.total for each in jobs[:3]] == [0, 0, 0]
    assert jobs[3].total > 0
    assert quote.body["whole"]["total"] == f"{jobs[3].total / 100:.2f}"
    assert jobs[0].quote_id == quote.id
    line.check()
    line.cancel(alice, jobs[1].id)
    line.work()
    line.check()
    use = line.session.scalars(select(FreeUse)).one()
    assert (use.reserved, use.spent) == (0, 40 * 705_600_000)
    [ended] = ends(line)
    assert ended["counts"] == {"completed": 3, "cancelled": 1}


def test_free_seconds_are_reserved_without_a_quote_too(line: Line) -> None:
    alice = line.open(membership="studio")
    jobs = group_of(line, line.order(alice, seconds=25, n=3))
    assert [each.total > 0 for each in jobs] == [False, False, True]
    line.check()
    line.work()
    line.check()


def test_a_quote_covers_all_films_and_is_redeemed_or_expires_as_a_whole(line: Line) -> None:
    alice = line.open()
    quote = line.quote(alice, seconds=2, n=2)
    assert (quote.body["whole"]["total"], quote.body["resolved"]["n"]) == ("1.76", 2)
    for fields in ({"n": 3}, {"n": None}, {"seeds": [1, 2]}):
        with pytest.raises(AppError) as refused:
            line.order(alice, seconds=2, quote_id=quote.id, **fields)
        assert refused.value.code == "quote_mismatch"
    further = line.session.scalars(select(Quote).where(Quote.first_id == quote.id)).one()
    with pytest.raises(AppError) as refused:
        line.order(alice, seconds=2, seed=further.spec["seed"], quote_id=further.id)
    assert refused.value.code == "not_found"
    job = line.order(alice, seconds=2, n=2, quote_id=quote.id)
    assert line.order(alice, seconds=2, n=2, quote_id=quote.id).id == job.id
    other = line.quote(alice, seconds=2, n=2)
    line.wait(minutes=16)
    line.sweep()
    states = line.session.scalars(select(Quote.state).where((Quote.id == other.id) | (Quote.first_id == other.id)))
    assert states.all() == ["expired", "expired"]
    line.work()
    line.check()


def test_the_quotes_of_an_orders_films_expire_together(line: Line) -> None:
    alice = line.open(membership="studio")
    quote = line.quote(alice, seconds=5, n=3)
    own = (Quote.id == quote.id) | (Quote.first_id == quote.id)
    reserved = select(FreeUse.reserved).where(FreeUse.account_id == alice.account_id)
    assert line.session.scalars(reserved).one() == 15 * 705_600_000
    line.wait(minutes=16)
    assert quotes_past_expiry(line.session, limit=10) == [quote.id]
    further = line.session.scalars(select(Quote.id).where(Quote.first_id == quote.id)).all()
    line.act(lambda: expire_quote(line.session, quote.id))
    line.session.expire_all()
    assert line.session.scalars(select(Quote.state).where(own)).all() == ["expired"] * 3
    assert line.session.scalars(reserved).one() == 0
    states = select(Reservation.state).where(Reservation.quote_id.in_([quote.id, *further]))
    assert set(line.session.scalars(states)) == {"returned"}
    line.check()


def test_a_quote_of_which_a_part_has_expired_is_not_redeemed(line: Line) -> None:
    alice = line.open(membership="studio")
    quote = line.quote(alice, seconds=5, n=2)
    line.session.execute(update(Quote).where(Quote.first_id == quote.id).values(state="expired"))
    line.session.commit()
    with pytest.raises(AppError) as refused:
        line.order(alice, seconds=5, n=2, seed=quote.spec["seed"], quote_id=quote.id)
    assert refused.value.code == "quote_expired"
    assert line.session.scalars(select(Job)).all() == []


def test_a_key_may_repeat_the_call_for_a_group(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, key="k", seconds=2, n=2)
    assert line.order(alice, key="k", seconds=2, n=2).id == job.id
    with pytest.raises(AppError) as refused:
        line.order(alice, key="k", seconds=2, n=3)
    assert refused.value.code == "idempotency_mismatch"
    assert len(line.session.scalars(select(Job.id)).all()) == 2


def test_a_group_of_another_account_is_not_there(line: Line) -> None:
    alice, bob = line.open(), line.open("Bob")
    job = line.order(alice, seconds=1, n=2)
    assert find_group(line.session, alice, str(job.group_id)).size == 2
    with pytest.raises(AppError) as refused:
        find_group(line.session, bob, str(job.group_id))
    assert refused.value.code == "not_found"


@pytest.fixture
def shared_line(engine: Engine, redis_url: str) -> Iterator[Line]:
    with Session(engine, expire_on_commit=False) as session:
        yield Line(session)


def test_two_films_of_a_group_that_end_at_once_end_it_once(engine: Engine, shared_line: Line) -> None:
    line = shared_line
    alice = line.open()
    for _ in range(4):
        jobs = group_of(line, line.order(alice, seconds=1, n=2))
        line.session.rollback()

        def cancel(session: Session, job_id: str) -> object:
            return request_cancel(session, find_job(session, alice, job_id, lock=True))

        acts = [lambda session, job_id=job.id: cancel(session, job_id) for job in jobs]
        assert at_once(engine, *acts) == ["done", "done"]
    assert len(ends(line)) == 4
    line.session.expire_all()
    line.check()
