import json
import threading
from datetime import timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.tables import Account
from app.clock import now
from app.db import new_id, transaction
from app.errors import AppError
from app.events import feed
from app.events.feed import list_events
from app.events.record import record_event
from app.events.schemas import show_event, show_page
from app.events.tables import Event
from app.events.types import EVENT_TYPES, sample_data


def open_account(session: Session) -> str:
    account = Account(
        id=new_id("acct"), name="Feed", currency="CNY", billing_zone="Asia/Shanghai", created_at=now(session)
    )
    session.add(account)
    session.flush()
    return account.id


def write(
    session: Session, account_id: str, *, job_id: str | None = None, type: str = "wallet.low", **rest: bool
) -> Event:
    data = {"id": job_id or account_id}
    return record_event(session, account_id=account_id, project_id=None, job_id=job_id, type=type, data=data, **rest)


def test_the_stored_body_is_the_envelope_of_both_standards(session: Session):
    session.info["clock_offset"] = timedelta(0)
    account_id = open_account(session)
    data = {"id": "video_1", "prompt": "红色的圆 \ud83d\ude00", "price": {"total": "2.19"}}
    event = record_event(
        session, account_id=account_id, project_id=None, job_id="video_1", type="video.completed", data=data
    )
    body = json.loads(event.body)
    assert list(body) == ["id", "object", "type", "created_at", "timestamp", "sequence", "data"]
    assert (body["id"], body["object"], body["type"], body["sequence"]) == (event.id, "event", "video.completed", 1)
    assert body["data"]["prompt"] == "红色的圆 😀"
    assert body["created_at"] == int(event.occurred_at.timestamp())
    assert body["timestamp"].endswith("Z")
    assert event.body.isascii()
    assert "." not in event.id
    session.expire(event)
    assert json.loads(event.body) == body
    assert show_event(event).data == body["data"]


def test_the_events_of_a_job_are_numbered_from_one(session: Session):
    account_id = open_account(session)
    types = ["video.created", "video.started", "video.failed"]
    assert [write(session, account_id, job_id="video_2", type=type_).sequence for type_ in types] == [1, 2, 3]
    assert write(session, account_id).sequence is None


def test_a_job_ends_once(session: Session):
    account_id = open_account(session)
    write(session, account_id, job_id="video_3", type="video.completed")
    with pytest.raises(IntegrityError, match="uq_events_terminal"):
        write(session, account_id, job_id="video_3", type="video.failed")


def test_unknown_types_and_data_without_a_subject_are_mistakes(session: Session):
    with pytest.raises(ValueError, match="EVENT_TYPES"):
        write(session, "acct_1", type="video.exploded")
    with pytest.raises(ValueError, match="subject"):
        record_event(session, account_id="acct_1", project_id=None, job_id=None, type="wallet.low", data={})


@pytest.mark.parametrize("type_", EVENT_TYPES)
def test_every_type_has_a_sample_that_names_a_subject(type_: str):
    assert sample_data(type_, "acct_1")["id"]


def test_the_feed_pages_in_order_and_ends(session: Session):
    account_id = open_account(session)
    event_ids = [write(session, account_id).id for _ in range(5)]
    first = list_events(session, account_id, limit=3)
    second = list_events(session, account_id, after=first.events[-1].id, limit=3)
    assert {event.id for event in first.events + second.events} == set(event_ids)
    assert (len(first.events), first.has_more, len(second.events), second.has_more) == (3, True, 2, False)
    end = second.events[-1].id
    assert list_events(session, account_id, after=end).events == []
    late = write(session, account_id).id
    assert [event.id for event in list_events(session, account_id, after=end).events] == [late]
    page = show_page(first)
    assert (page.first_id, page.last_id, page.has_more) == (first.events[0].id, first.events[-1].id, True)


def test_test_and_live_and_projects_are_feeds_of_their_own(session: Session):
    account_id = open_account(session)
    live, trial = write(session, account_id).id, write(session, account_id, test=True).id
    assert [event.id for event in list_events(session, account_id).events] == [live]
    assert [event.id for event in list_events(session, account_id, test=True).events] == [trial]
    assert list_events(session, account_id, project_id="proj_1").events == []


def test_a_cursor_from_a_webhook_works_before_the_feed_was_read(session: Session):
    account_id = open_account(session)
    events = [write(session, account_id) for _ in range(3)]
    rest = list_events(session, account_id, after=events[0].id).events
    assert len(rest) == 3 - (events[0].position or 0)


def test_a_cursor_of_another_account_does_not_exist(session: Session):
    mine, theirs = open_account(session), open_account(session)
    event = write(session, theirs)
    with pytest.raises(AppError, match="no event"):
        list_events(session, mine, after=event.id)


def test_a_limit_out_of_range_is_refused(session: Session):
    for limit in (0, 1_001):
        with pytest.raises(AppError) as caught:
            list_events(session, "acct_1", limit=limit)
        assert caught.value.field == "limit"


def test_an_event_that_commits_late_is_not_stepped_over(engine: Engine):
    with transaction(engine) as session:
        account_id = open_account(session)
    with Session(engine) as slow:
        late = write(slow, account_id).id
        with transaction(engine) as quick:
            early = write(quick, account_id).id
        with transaction(engine) as reader:
            seen = [event.id for event in list_events(reader, account_id).events]
        assert seen == [early]
        slow.commit()
    with transaction(engine) as reader:
        assert [event.id for event in list_events(reader, account_id, after=early).events] == [late]


def test_a_reader_that_follows_many_writers_sees_each_event_once(engine: Engine):
    with transaction(engine) as session:
        account_id = open_account(session)
    event_ids: list[str] = []

    def writer() -> None:
        for number in range(25):
            with Session(engine) as session:
                event_id = write(session, account_id).id
                if number % 5:
                    session.commit()
                    event_ids.append(event_id)

    def follow(until: threading.Event) -> list[str]:
        seen: list[str] = []
        ended = False
        while not ended:
            ended = until.is_set()
            with transaction(engine) as session:
                seen += [
                    event.id
                    for event in list_events(session, account_id, after=seen[-1] if seen else None, limit=7).events
                ]
        with transaction(engine) as session:
            return seen + [event.id for event in list_events(session, account_id, after=seen[-1], limit=1_000).events]

    finished = threading.Event()
    followed: list[list[str]] = []
    readers = [threading.Thread(target=lambda: followed.append(follow(finished))) for _ in range(2)]
    writers = [threading.Thread(target=writer) for _ in range(4)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    finished.set()
    for thread in readers:
        thread.join()
    assert followed[0] == followed[1]
    assert len(followed[0]) == len(set(followed[0])) == len(event_ids) == 80
    assert set(followed[0]) == set(event_ids)


def test_one_read_numbers_at_most_a_page_and_the_next_goes_on(session: Session, monkeypatch: pytest.MonkeyPatch):
    """A key that sees few of an account's events pays for a page of them at a time, not for all that is unread."""
    monkeypatch.setattr(feed, "PAGE_MAX", 10)
    monkeypatch.setattr(feed, "SCAN_MAX", 15)
    account_id = open_account(session)
    for _ in range(34):
        write(session, account_id)
    trial = write(session, account_id, test=True).id
    unnumbered = session.query(Event).filter_by(account_id=account_id, position=None)
    left, after, seen = [], None, []
    for _ in range(8):
        page = list_events(session, account_id, test=True, after=after, limit=5)
        seen += [event.id for event in page.events]
        left.append(unnumbered.count())
        after = show_page(page).last_id
        if not page.has_more:
            break
    assert left == [25, 15, 5, 0]
    assert seen == [trial]
    assert list_events(session, account_id, test=True, after=after, limit=5).events == []


def test_a_cursor_far_ahead_of_the_feed_numbers_a_page_at_a_time(session: Session, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed, "PAGE_MAX", 10)
    session.info["clock_at"] = now(session)
    account_id = open_account(session)
    events = []
    for _ in range(25):
        session.info["clock_at"] += timedelta(seconds=1)
        events.append(write(session, account_id))
    pages = [list_events(session, account_id, after=events[-1].id, limit=5) for _ in range(3)]
    assert [(page.events, page.has_more) for page in pages] == [([], True), ([], True), ([], False)]
    session.expire_all()
    assert [event.position for event in events] == list(range(1, 26))
