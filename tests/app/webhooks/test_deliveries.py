from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.clock import now
from app.errors import AppError
from app.events.tables import Event
from app.webhooks import deliveries as verbs
from app.webhooks.deliveries import get_delivery, list_deliveries, prune_deliveries, recover, redeliver
from app.webhooks.endpoints import update_endpoint
from app.webhooks.schemas import EndpointUpdate
from app.webhooks.tables import Attempt, Delivery
from tests.app.webhooks.factories import (
    answered,
    claim_due,
    finish,
    let_pass,
    open_account,
    open_endpoint,
    open_project,
    publish,
)


@pytest.fixture
def caller(session: Session) -> Caller:
    return open_account(session)


def test_a_delivery_is_shown_with_its_attempts(session: Session, caller: Caller):
    endpoint = open_endpoint(session, caller)
    event = publish(session, caller)
    for status in (500, 200):
        finish(session, claim_due(session), answered(status))
        let_pass(session, timedelta(seconds=30))
    [listed], more = list_deliveries(session, caller, endpoint_id=endpoint.id)
    assert (listed.event_id, listed.event_type, listed.state, listed.attempts, more) == (
        event.id, "video.completed", "delivered", 2, False,
    )  # fmt: skip
    delivery_out, attempts = get_delivery(session, caller, listed.id)
    assert delivery_out == listed
    assert [attempt.status_code for attempt in attempts] == [500, 200]
    assert attempts[0].ip == "203.0.113.9"


@pytest.mark.parametrize("fault", ["blocked", "dns_failed", "connect_failed"])
def test_customers_cannot_distinguish_private_addresses(session: Session, caller: Caller, fault: str):
    open_endpoint(session, caller)
    publish(session, caller)
    [request] = claim_due(session)
    finish(session, [request], answered(None, fault=fault))
    _, [delivery_out] = get_delivery(session, caller, request.delivery_id)
    assert (delivery_out.fault, delivery_out.ip, delivery_out.dns_ms, delivery_out.total_ms) == (
        "unreachable",
        None,
        None,
        None,
    )
    stored = session.scalars(select(Attempt).where(Attempt.delivery_id == request.delivery_id)).one()
    assert (stored.fault, stored.detail) == (fault, "detail")


def test_lists_filter_and_page(session: Session, caller: Caller):
    endpoint = open_endpoint(session, caller)
    events = []
    for _ in range(5):
        events.insert(0, publish(session, caller).id)
        let_pass(session, timedelta(seconds=1))
    finish(session, claim_due(session)[:1], answered(200))
    first, more = list_deliveries(session, caller, limit=3)
    second, end = list_deliveries(session, caller, after=first[-1].id, limit=3)
    assert [delivery.event_id for delivery in first + second] == events
    assert (more, end) == (True, False)
    assert len(list_deliveries(session, caller, state="pending")[0]) == 4
    assert len(list_deliveries(session, caller, event_id=events[0])[0]) == 1
    assert len(list_deliveries(session, caller, endpoint_id=endpoint.id)[0]) == 5


def test_a_pending_delivery_is_brought_forward(session: Session, caller: Caller):
    open_endpoint(session, caller)
    publish(session, caller)
    [request] = claim_due(session)
    for _ in range(3):
        finish(session, [request], answered(404))
        repeated = redeliver(session, caller, request.delivery_id)
        assert repeated.id == request.delivery_id
        [request] = claim_due(session)
    assert request.attempts == 3


def test_an_ended_delivery_goes_out_again_as_a_new_one_under_the_same_id(session: Session, caller: Caller):
    open_endpoint(session, caller)
    event = publish(session, caller)
    [request] = claim_due(session)
    finish(session, [request], answered(200))
    repeated = redeliver(session, caller, request.delivery_id)
    assert (repeated.trigger, repeated.state, repeated.event_id) == ("manual", "pending", event.id)
    assert repeated.id != request.delivery_id
    assert redeliver(session, caller, request.delivery_id).id == repeated.id
    [second] = claim_due(session)
    assert (second.event_id, second.body) == (request.event_id, request.body)


def test_a_callback_goes_out_again_to_its_own_url(session: Session, caller: Caller):
    publish(session, caller, callback_url="https://app.example.com/done?job=7")
    [request] = claim_due(session)
    finish(session, [request], answered(None, fault="blocked"))
    delivery_out = redeliver(session, caller, request.delivery_id)
    assert (delivery_out.url, delivery_out.endpoint_id) == ("https://app.example.com/done?job=7", None)
    assert claim_due(session)[0].url == request.url


def test_a_disabled_endpoint_gets_nothing_again(session: Session, caller: Caller):
    endpoint = open_endpoint(session, caller)
    publish(session, caller)
    [request] = claim_due(session)
    finish(session, [request], answered(200))
    update_endpoint(session, caller, endpoint.id, EndpointUpdate(enabled=False))
    for attempt in (
        lambda: redeliver(session, caller, request.delivery_id),
        lambda: recover(session, caller, endpoint.id, since=now(session) - timedelta(days=1)),
    ):
        with pytest.raises(AppError, match="enable it first"):
            attempt()


def test_recover_brings_what_was_exhausted_missed_and_abandoned_but_nothing_twice(session: Session, caller: Caller):
    endpoint = open_endpoint(session, caller, event_types=["video.*"])
    start = now(session)
    arrived = publish(session, caller)
    finish(session, claim_due(session), answered(200))
    refused = publish(session, caller)
    finish(session, claim_due(session), answered(None, fault="blocked"))
    pending = publish(session, caller)
    finish(session, claim_due(session), answered(404))
    let_pass(session, timedelta(hours=1))
    update_endpoint(session, caller, endpoint.id, EndpointUpdate(enabled=False))
    missed = publish(session, caller)
    publish(session, caller, "wallet.low")
    update_endpoint(session, caller, endpoint.id, EndpointUpdate(enabled=True))
    let_pass(session, timedelta(hours=1))
    assert recover(session, caller, endpoint.id, since=start, dry_run=True) == (3, None)
    assert claim_due(session) == []
    assert recover(session, caller, endpoint.id, since=start) == (3, None)
    assert recover(session, caller, endpoint.id, since=start) == (0, None)
    assert {request.event_id for request in claim_due(session)} == {refused.id, pending.id, missed.id} - {arrived.id}


def test_recover_keeps_to_its_range_and_says_where_to_go_on(
    session: Session, caller: Caller, monkeypatch: pytest.MonkeyPatch
):
    moments = []
    for _ in range(6):
        moments.append(now(session))
        publish(session, caller)
        let_pass(session, timedelta(hours=1))
    endpoint = open_endpoint(session, caller)
    let_pass(session, timedelta(hours=1))
    assert recover(session, caller, endpoint.id, since=moments[1], until=moments[3], dry_run=True) == (2, None)
    monkeypatch.setattr(verbs, "RECOVER_MAX", 4)
    count, rest = recover(session, caller, endpoint.id, since=moments[0])
    assert (count, rest is not None) == (4, True)
    assert rest is not None
    assert recover(session, caller, endpoint.id, since=rest) == (2, None)
    assert len(claim_due(session)) == 6
    with pytest.raises(AppError, match="time zone"):
        recover(session, caller, endpoint.id, since=datetime(2026, 4, 27))


def test_recover_goes_no_further_back_than_the_log(session: Session, caller: Caller):
    endpoint = open_endpoint(session, caller)
    start = now(session)
    publish(session, caller)
    finish(session, claim_due(session), answered(200))
    let_pass(session, timedelta(days=29, hours=23))
    assert prune_deliveries(session, limit=10) == 0
    assert recover(session, caller, endpoint.id, since=start) == (0, None)
    moment = let_pass(session, timedelta(hours=2))
    assert prune_deliveries(session, limit=10) == 1
    for dry_run in (True, False):
        with pytest.raises(AppError, match="30 days") as refused:
            recover(session, caller, endpoint.id, since=start, dry_run=dry_run)
        assert (refused.value.code, refused.value.field) == ("invalid_request", "since")
    assert recover(session, caller, endpoint.id, since=moment - timedelta(days=30)) == (0, None)
    assert claim_due(session) == [], "what had arrived is not sent again"


def test_other_accounts_see_no_delivery(session: Session, caller: Caller):
    project = open_project(session, caller)
    endpoint = open_endpoint(session, caller)
    publish(session, caller)
    delivery = session.scalars(select(Delivery).where(Delivery.endpoint_id == endpoint.id)).one()
    for stranger in (open_account(session), replace(caller, test=True), replace(caller, project_id=project)):
        assert list_deliveries(session, stranger) == ([], False)
        for attempt in (
            lambda who: get_delivery(session, who, delivery.id),
            lambda who: redeliver(session, who, delivery.id),
            lambda who: recover(session, who, endpoint.id, since=now(session)),
        ):
            with pytest.raises(AppError) as caught:
                attempt(stranger)
            assert caught.value.code == "not_found"


def test_a_projects_key_sees_its_own(session: Session, caller: Caller):
    project = open_project(session, caller)
    open_endpoint(session, caller, project=project)
    publish(session, caller, project_id=project, callback_url="https://app.example.com/")
    publish(session, caller, callback_url="https://app.example.com/")
    assert len(list_deliveries(session, replace(caller, project_id=project))[0]) == 2
    assert len(list_deliveries(session, caller)[0]) == 3


def test_old_deliveries_leave_the_log_and_their_events_stay(session: Session, caller: Caller):
    open_endpoint(session, caller)
    event = publish(session, caller)
    finish(session, claim_due(session), answered(200))
    let_pass(session, timedelta(days=29))
    pending = publish(session, caller)
    assert prune_deliveries(session, limit=10) == 0
    let_pass(session, timedelta(days=2))
    assert prune_deliveries(session, limit=10) == 1
    assert session.scalars(select(Attempt)).all() == []
    [left], _ = list_deliveries(session, caller)
    assert left.event_id == pending.id, "what is still to be delivered is not forgotten"
    assert session.get(Event, event.id) is not None
    let_pass(session, timedelta(days=60))
    assert prune_deliveries(session, limit=10) == 0
