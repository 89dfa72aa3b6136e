"""The courier at work: real Postgres, real sockets, receivers that misbehave, and kill -9."""

from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, func, select, text
from standardwebhooks import Webhook

from app.accounts.caller import Caller
from app.db import transaction
from app.errors import AppError
from app.events.feed import list_events
from app.net import Egress
from app.settings import get_settings
from app.webhooks.callback_secret import rotate_callback_secret
from app.webhooks.deliveries import get_delivery, list_deliveries
from app.webhooks.secret import key_of
from app.webhooks.tables import Attempt, Delivery, Endpoint
from app.webhooks.test_send import send_test
from tests.app.net.receiver import Received, Receiver
from tests.app.webhooks.couriers import LOOSE, CourierProcess, courier_thread
from tests.app.webhooks.factories import open_account, open_endpoint, publish


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@pytest.fixture
def caller(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Caller:
    monkeypatch.setenv("CINEMETER_WEBHOOK_ALLOW_PRIVATE", "1")
    get_settings.cache_clear()
    key_of.cache_clear()
    with transaction(engine) as session:
        return open_account(session)


def ids(requests: list[Received]) -> set[str]:
    return {request.headers["webhook-id"] for request in requests}


def test_events_arrive_signed_once_each_and_are_logged(engine: Engine, caller: Caller, receiver: Receiver):
    with transaction(engine) as session:
        secret = open_endpoint(session, caller, receiver.url("/ok")).signing_secret
        events = {publish(session, caller).id for _ in range(40)}
    with courier_thread():
        assert receiver.wait_for(lambda requests: ids(requests) == events)
    assert secret is not None
    for request in receiver.requests:
        assert request.headers["content-type"] == "application/json"
        Webhook(secret).verify(request.body.decode(), request.headers)
    assert len(receiver.requests) == 40
    # Ten in flight at most means ten connections at most, kept and used again.
    assert receiver.connections <= 10
    with transaction(engine) as session:
        states = session.scalars(select(Delivery.state)).all()
        assert Counter(states) == {"delivered": 40}
        assert session.scalar(select(func.count()).select_from(Attempt)) == 40
        delivery, _ = list_deliveries(session, caller, limit=1)
        _, [attempt] = get_delivery(session, caller, delivery[0].id)
        assert (attempt.ip, attempt.status_code, attempt.excerpt) == ("127.0.0.1", 200, "ok")


def test_a_callback_is_signed_with_the_accounts_secret(engine: Engine, caller: Caller, receiver: Receiver):
    with transaction(engine) as session:
        secret = rotate_callback_secret(session, caller, keep_old_hours=0).signing_secret
        publish(session, caller, callback_url=receiver.url("/ok?job=1"))
    with courier_thread():
        assert receiver.wait_for(lambda requests: len(requests) == 1)
    [request] = receiver.requests
    assert request.target == "/ok?job=1"
    assert secret is not None
    Webhook(secret).verify(request.body.decode(), request.headers)


def test_each_hostile_receiver_has_an_error_code_and_delays_no_other(
    engine: Engine, caller: Caller, receiver: Receiver
):
    expected = {
        "/hang": (None, "timeout", "pending"),
        "/drip": (None, "timeout", "pending"),
        "/reset": (None, "disconnected", "pending"),
        "/garbage": (None, "bad_answer", "pending"),
        "/redirect?to=http://169.254.169.254/": (302, None, "pending"),
        "/status/429?retry_after=3600": (429, None, "pending"),
        "/status/410": (410, None, "abandoned"),
        "/flood": (200, None, "delivered"),
        "/bomb": (200, None, "delivered"),
        "/ok": (200, None, "delivered"),
    }
    with transaction(engine) as session:
        for path in expected:
            open_endpoint(session, caller, receiver.url(path), event_types=["video.*"])
        event = publish(session, caller)
    with courier_thread(seconds=0.5):
        assert receiver.wait_for(lambda requests: {request.target for request in requests} == set(expected))
    with transaction(engine) as session:
        rows = session.execute(
            select(Endpoint.url, Attempt.status, Attempt.fault, Delivery.state, Attempt.excerpt)
            .join(Delivery, Delivery.endpoint_id == Endpoint.id)
            .join(Attempt, Attempt.delivery_id == Delivery.id)
            .where(Delivery.event_id == event.id)
        ).all()
    seen = {row.url.removeprefix(receiver.url("")): (row.status, row.fault, row.state) for row in rows}
    assert seen == expected
    excerpts = {row.url.removeprefix(receiver.url("")): row.excerpt for row in rows}
    assert excerpts["/bomb"] == "[16384 bytes of gzip, not opened]"
    assert excerpts["/flood"] == "x" * 4_096


def test_a_private_address_is_refused_in_service(engine: Engine, caller: Caller, receiver: Receiver):
    with transaction(engine) as session:
        open_endpoint(session, caller, receiver.url("/ok"))
        event = publish(session, caller)
    sample = send_test(caller, find_only(engine), egress=Egress())
    assert (sample.success, sample.status_code, sample.attempt.fault) == (False, 0, "unreachable")
    assert receiver.connections == 0
    assert event.id != sample.event_id


def test_a_sample_is_sent_while_its_owner_waits(engine: Engine, caller: Caller, receiver: Receiver):
    with transaction(engine) as session:
        endpoint = open_endpoint(session, caller, receiver.url("/ok"))
        failing = open_endpoint(session, caller, receiver.url("/status/503"))
    sample = send_test(caller, endpoint.id, "video.completed", egress=LOOSE)
    assert (sample.success, sample.status_code, sample.attempt.excerpt) == (True, 200, "ok")
    [request] = receiver.requests
    assert endpoint.signing_secret is not None
    body = Webhook(endpoint.signing_secret).verify(request.body.decode(), request.headers)
    assert (body["type"], body["data"]["id"]) == ("video.completed", "video_sample")
    bad = send_test(caller, failing.id, egress=LOOSE)
    assert (bad.success, bad.status_code) == (False, 503)
    with transaction(engine) as session:
        assert set(session.scalars(select(Delivery.state))) == {"delivered", "abandoned"}
        assert list_events(session, caller.account_id).events == []
        assert session.scalars(select(Endpoint.failing_since)).all() == [None, None]
    with pytest.raises(AppError, match="no event type"):
        send_test(caller, endpoint.id, "video.exploded", egress=LOOSE)


def test_an_attempt_that_cannot_be_written_is_spent_all_the_same(engine: Engine, caller: Caller, receiver: Receiver):
    with transaction(engine) as session:
        open_endpoint(session, caller, receiver.url("/status/418"))
        open_endpoint(session, caller, receiver.url("/status/204"))
        publish(session, caller)
        # Stands for whatever the log of attempts may one day be unable to hold.
        session.execute(text("ALTER TABLE webhook_attempts ADD CHECK (status NOT IN (204, 418))"))
    with courier_thread():
        assert receiver.wait_for(lambda requests: len(requests) == 2)
    with transaction(engine) as session:
        rows = session.execute(select(Delivery.last_status, Delivery.state, Delivery.attempts, Delivery.lease)).all()
        assert {tuple(row) for row in rows} == {(418, "pending", 1, None), (204, "delivered", 1, None)}


def test_a_courier_waits_for_a_database_that_is_away(engine: Engine, caller: Caller, receiver: Receiver):
    with transaction(engine) as session:
        open_endpoint(session, caller, receiver.url("/ok"))
    with courier_thread():
        with engine.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                    " AND datname = current_database()"
                )
            )
        with transaction(engine) as session:
            event = publish(session, caller)
        assert receiver.wait_for(lambda requests: ids(requests) == {event.id})


def test_kill_9_loses_nothing_and_what_comes_twice_has_its_first_id(engine: Engine, caller: Caller, receiver: Receiver):
    with transaction(engine) as session:
        for number in range(6):
            open_endpoint(session, caller, receiver.url(f"/ok?endpoint={number}"), max_in_flight=5)
        bodies = {event.id: event.body for event in [publish(session, caller) for _ in range(60)]}
    for received in (30, 120):
        with CourierProcess():
            assert receiver.wait_for(lambda requests, received=received: len(requests) >= received)
    everything = {(event_id, f"/ok?endpoint={number}") for event_id in bodies for number in range(6)}
    seen = lambda requests: {(request.headers["webhook-id"], request.target) for request in requests}  # noqa: E731
    with CourierProcess() as last:
        assert receiver.wait_for(lambda requests: seen(requests) == everything, 60)
        assert last.terminate() == 0
    assert all(request.body.decode() == bodies[request.headers["webhook-id"]] for request in receiver.requests)
    twice = len(receiver.requests) - len(everything)
    # At most what was in flight at a kill, and sent but not yet reported, comes again.
    assert 0 <= twice <= 2 * 30 + 200
    with transaction(engine) as session:
        # What a killed courier had sent but not reported may still be under way a second time; nothing is lost.
        assert session.scalar(select(func.count()).select_from(Delivery)) == 360
        lost = select(func.count()).where(Delivery.state.in_(("exhausted", "abandoned")))
        assert session.scalar(lost) == 0


def test_sigterm_finishes_what_is_in_flight_and_reports_it(engine: Engine, caller: Caller, receiver: Receiver):
    with transaction(engine) as session:
        open_endpoint(session, caller, receiver.url("/hang"))
        publish(session, caller)
    with CourierProcess(timeout_seconds=1.0) as courier:
        assert receiver.wait_for(lambda requests: len(requests) == 1)
        assert courier.terminate() == 0
    with transaction(engine) as session:
        [attempt] = session.scalars(select(Attempt)).all()
        assert attempt.fault == "timeout"
        [delivery] = session.scalars(select(Delivery)).all()
        assert (delivery.state, delivery.attempts, delivery.lease) == ("pending", 1, None)


def find_only(engine: Engine) -> str:
    with transaction(engine) as session:
        return session.scalars(select(Endpoint.id)).one()
