"""The life of a delivery, step by step: claimed, answered, retried over 75 hours, ended. Tests move the clock."""

import itertools
import json
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.clock import now
from app.events.tables import Event
from app.webhooks.endpoints import find_endpoint, show_endpoint_of, update_endpoint
from app.webhooks.outcomes import EXCERPT_BYTES_MAX
from app.webhooks.schedule import SCHEDULE
from app.webhooks.schemas import EndpointUpdate
from app.webhooks.tables import Attempt, Delivery, Endpoint
from tests.app.webhooks.factories import (
    answered,
    claim_due,
    finish,
    let_pass,
    open_account,
    open_endpoint,
    publish,
    reload,
)


@pytest.fixture
def caller(session: Session) -> Caller:
    return open_account(session)


def events_of(session: Session, caller: Caller, type_: str) -> list[dict[str, object]]:
    query = select(Event.body).where(Event.account_id == caller.account_id, Event.type == type_)
    return [json.loads(body)["data"] for body in session.scalars(query.order_by(Event.occurred_at))]


def test_a_good_answer_delivers(session: Session, caller: Caller):
    endpoint = open_endpoint(session, caller)
    event = publish(session, caller)
    [request] = claim_due(session)
    assert (request.event_id, request.endpoint_id, request.body.decode()) == (event.id, endpoint.id, event.body)
    assert claim_due(session) == []
    finish(session, [request], answered(204))
    delivery = reload(session, request.delivery_id)
    assert (delivery.state, delivery.attempts, delivery.last_status) == ("delivered", 1, 204)
    assert (delivery.next_attempt_at, delivery.lease) == (None, None)


def test_the_attempt_log_records_each_attempt(session: Session, caller: Caller):
    open_endpoint(session, caller)
    publish(session, caller)
    [request] = claim_due(session)
    finish(session, [request], answered(503, retry_after="120", body=b"busy \x00\xff" + b"x" * 5_000))
    attempt = session.scalars(select(Attempt).where(Attempt.delivery_id == request.delivery_id)).one()
    assert (attempt.status, attempt.fault, attempt.ip, attempt.retry_after_seconds) == (503, None, "203.0.113.9", 120)
    assert (attempt.dns_ms, attempt.connect_ms, attempt.tls_ms, attempt.ttfb_ms, attempt.total_ms) == (1, 2, 3, 4, 10)
    assert attempt.excerpt.startswith("busy \ufffd\ufffdx")
    assert len(attempt.excerpt) <= EXCERPT_BYTES_MAX


def test_ten_attempts_over_three_days_and_then_no_more(session: Session, caller: Caller):
    # Only videos: on the third day the account also gets the event that this endpoint is failing.
    open_endpoint(session, caller, event_types=["video.*"])
    publish(session, caller)
    intervals = []
    for _ in range(len(SCHEDULE)):
        [request] = claim_due(session)
        intervals.append(now(session))
        finish(session, [request], answered(404))
        assert claim_due(session) == []
        next_at = reload(session, request.delivery_id).next_attempt_at
        if next_at is not None:
            let_pass(session, next_at - now(session))
    delivery = reload(session, request.delivery_id)
    assert (delivery.state, delivery.ended_reason, delivery.attempts) == ("exhausted", "attempts_spent", 10)
    for step, wait in zip(SCHEDULE[1:], [b - a for a, b in itertools.pairwise(intervals)], strict=True):
        assert 0.79 * step <= wait <= 1.21 * step + timedelta(seconds=1)


def test_a_courier_that_dies_loses_nothing_and_uses_up_no_attempt(session: Session, caller: Caller):
    open_endpoint(session, caller)
    publish(session, caller)
    [lost] = claim_due(session, lease_seconds=30)
    let_pass(session, timedelta(seconds=29))
    assert claim_due(session) == []
    let_pass(session, timedelta(seconds=2))
    [second] = claim_due(session)
    assert (second.event_id, second.delivery_id, second.attempts) == (lost.event_id, lost.delivery_id, 0)
    assert second.lease != lost.lease


def test_a_lost_lease_changes_nothing_unless_the_event_arrived(session: Session, caller: Caller):
    open_endpoint(session, caller)
    publish(session, caller)
    [lost] = claim_due(session, lease_seconds=1)
    let_pass(session, timedelta(seconds=2))
    [second] = claim_due(session)
    finish(session, [lost], answered(500))
    delivery = reload(session, second.delivery_id)
    assert (delivery.state, delivery.attempts, delivery.lease) == ("pending", 0, second.lease)
    finish(session, [lost], answered(200))
    assert reload(session, second.delivery_id).state == "delivered"
    finish(session, [second], answered(500))
    assert reload(session, second.delivery_id).state == "delivered"


def test_status_410_disables_the_endpoint_and_notifies_the_others(session: Session, caller: Caller):
    gone = open_endpoint(session, caller, "https://gone.example.com/")
    other = open_endpoint(session, caller, "https://other.example.com/", event_types=["endpoint.*"])
    publish(session, caller)
    publish(session, caller)
    first, second = claim_due(session)
    publish(session, caller)
    finish(session, [first], answered(410))
    assert show_endpoint_of(session, find_endpoint(session, caller, gone.id)).disabled_reason == "gone"
    # The one in flight is left to its report, the one that waited is given up.
    assert reload(session, first.delivery_id).ended_reason == "gone"
    assert reload(session, second.delivery_id).state == "pending"
    finish(session, [second], answered(200))
    assert reload(session, second.delivery_id).state == "delivered"
    states = session.scalars(select(Delivery.ended_reason).where(Delivery.endpoint_id == gone.id)).all()
    assert states.count("endpoint_disabled") == 1
    [notice] = claim_due(session)
    assert notice.endpoint_id == other.id
    assert json.loads(notice.body)["data"] | {"failing_since": None} == {
        "id": gone.id,
        "object": "webhook_endpoint",
        "name": "",
        "url": "https://gone.example.com/",
        "failing_since": None,
        "reason": "gone",
    }


def test_what_failed_in_flight_while_its_endpoint_closed_is_abandoned(session: Session, caller: Caller):
    endpoint = open_endpoint(session, caller)
    publish(session, caller)
    [request] = claim_due(session)
    update_endpoint(session, caller, endpoint.id, EndpointUpdate(enabled=False))
    finish(session, [request], answered(500))
    let_pass(session, timedelta(minutes=1))
    assert claim_due(session) == []
    delivery = reload(session, request.delivery_id)
    assert (delivery.state, delivery.ended_reason) == ("abandoned", "endpoint_disabled")


def test_five_days_of_failures_disable_after_three_warnings(session: Session, caller: Caller):
    failing = open_endpoint(session, caller, "https://failing.example.com/", event_types=["video.*"])
    for hours in range(0, 121, 12):
        publish(session, caller)
        let_pass(session, timedelta(seconds=1))
        finish(session, claim_due(session), answered(404))
        if hours < 120:
            let_pass(session, timedelta(hours=12))
    endpoint_out = show_endpoint_of(session, find_endpoint(session, caller, failing.id))
    assert (endpoint_out.status, endpoint_out.disabled_reason) == ("disabled", "failing")
    assert [data["percent"] for data in events_of(session, caller, "endpoint.failing")] == [50, 70, 90]
    [notice] = events_of(session, caller, "endpoint.disabled")
    assert (notice["id"], notice["reason"]) == (failing.id, "failing")
    waiting = select(Delivery).where(Delivery.endpoint_id == failing.id, Delivery.state == "pending")
    assert session.scalars(waiting).all() == []


def test_one_success_starts_the_five_days_anew(session: Session, caller: Caller):
    endpoint = open_endpoint(session, caller, event_types=["video.*"])
    for status in (404, 404, 200, 404, 404):
        publish(session, caller)
        finish(session, claim_due(session), answered(status))
        let_pass(session, timedelta(days=2))
    assert show_endpoint_of(session, find_endpoint(session, caller, endpoint.id)).status == "failing"


def test_the_breaker_defers_without_using_up_attempts(session: Session, caller: Caller):
    endpoint = open_endpoint(session, caller)
    for _ in range(30):
        publish(session, caller)
    # All ten requests fail at once: five failures open the breaker, the other five do not count.
    finish(session, claim_due(session), answered(503))
    assert show_endpoint_of(session, find_endpoint(session, caller, endpoint.id)).status == "held_back"
    # The database's clock keeps running in addition to the shift, so a slow machine gets ten seconds to spare.
    let_pass(session, timedelta(seconds=5))
    assert claim_due(session) == []
    let_pass(session, timedelta(seconds=11))
    [probe] = claim_due(session)
    assert claim_due(session) == []
    finish(session, [probe], answered(503))
    let_pass(session, timedelta(seconds=15))
    assert claim_due(session) == []
    let_pass(session, timedelta(seconds=16))
    spent = session.scalars(select(Delivery.attempts).where(Delivery.endpoint_id == endpoint.id)).all()
    assert sorted(spent)[:19] == [0] * 19
    [probe] = claim_due(session)
    finish(session, [probe], answered(200))
    assert len(claim_due(session)) == 10
    assert show_endpoint_of(session, find_endpoint(session, caller, endpoint.id)).status == "enabled"


def test_retry_after_pauses_the_endpoint(session: Session, caller: Caller):
    open_endpoint(session, caller)
    for _ in range(20):
        publish(session, caller)
    finish(session, claim_due(session)[:1], answered(429, retry_after="600"))
    let_pass(session, timedelta(seconds=590))
    assert claim_due(session) == []
    let_pass(session, timedelta(seconds=20))
    assert len(claim_due(session)) == 10


def test_a_refused_address_is_not_retried_on_the_schedule(session: Session, caller: Caller):
    open_endpoint(session, caller)
    publish(session, caller)
    [request] = claim_due(session)
    finish(session, [request], answered(None, fault="blocked"))
    delivery = reload(session, request.delivery_id)
    assert (delivery.state, delivery.ended_reason, delivery.attempts) == ("abandoned", "unreachable", 1)


def test_failures_of_ours_use_up_no_attempt_and_end_after_a_time(session: Session, caller: Caller):
    open_endpoint(session, caller)
    publish(session, caller)
    [request] = claim_due(session)
    finish(session, [request], answered(None, fault="proxy_failed"))
    delivery = reload(session, request.delivery_id)
    assert (delivery.state, delivery.attempts) == ("pending", 0)
    let_pass(session, timedelta(days=8))
    finish(session, claim_due(session), answered(None, fault="internal"))
    assert reload(session, request.delivery_id).state == "pending"
    assert reload(session, request.delivery_id).attempts == 1


def test_an_endpoint_that_hangs_takes_no_place_of_others(session: Session, caller: Caller):
    hanging = open_endpoint(session, caller, "https://hanging.example.com/")
    for _ in range(40):
        publish(session, caller)
    assert {request.endpoint_id for request in claim_due(session, free=100)} == {hanging.id}
    good = open_endpoint(session, caller, "https://good.example.com/")
    publish(session, caller)
    assert {request.endpoint_id for request in claim_due(session, free=100)} == {good.id}


def test_callbacks_share_the_caps_of_their_origin_and_410_ends_only_their_url(session: Session, caller: Caller):
    for number in range(12):
        url = f"https://app.example.com/done?job={number % 2}"
        publish(session, caller, callback_url=url)
    requests = claim_due(session)
    assert len(requests) == 10
    [first] = [request for request in requests if request.url.endswith("job=0")][:1]
    finish(session, [first], answered(410))
    waiting = session.scalars(select(Delivery).where(Delivery.state == "pending", Delivery.lease.is_(None))).all()
    assert [delivery.url for delivery in waiting] == ["https://app.example.com/done?job=1"]
    assert session.scalars(select(Endpoint.disabled_at)).all() == [None]


def test_an_endpoint_with_a_small_rate_is_paced(session: Session, caller: Caller):
    open_endpoint(session, caller, rate_per_second=2, max_in_flight=50)
    for _ in range(20):
        publish(session, caller)
    counts = []
    for _ in range(4):
        counts.append(len(claim_due(session)))
        let_pass(session, timedelta(seconds=1))
    assert counts[0] == 2
    assert 6 <= sum(counts) <= 9
