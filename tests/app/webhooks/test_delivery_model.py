"""Any order of events, answers, crashes, closings and repeats, against a model in memory: nothing gets lost."""

import contextlib
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.clock import now
from app.errors import AppError
from app.webhooks.claim import DeliveryRequest
from app.webhooks.deliveries import recover, redeliver
from app.webhooks.endpoints import find_endpoint, update_endpoint
from app.webhooks.schedule import SCHEDULE
from app.webhooks.schemas import EndpointUpdate
from app.webhooks.tables import Delivery
from tests.app.webhooks.factories import answered, claim_due, finish, let_pass, open_account, open_endpoint, publish

FINAL = ("delivered", "exhausted", "abandoned")


class Deliveries(RuleBasedStateMachine):
    """One account, two endpoints, one courier that sometimes dies.

    Ids, jitter and the clock are the real ones and differ between two runs of one example. So no rule's being offered
    and no draw depends on what has happened: a rule with nothing to do does nothing.
    """

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.connection = self.engine.connect()
        self.outer = self.connection.begin()
        self.session = Session(self.connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        self.caller = open_account(self.session)
        urls = ("https://a.example.com/", "https://b.example.com/")
        self.endpoints = [open_endpoint(self.session, self.caller, url, event_types=["video.*"]).id for url in urls]
        self.start = now(self.session)
        self.events: set[str] = set()
        self.wanted: set[tuple[str, str]] = set()  # (event, endpoint) that was open when the event was told
        self.arrived: Counter[tuple[str, str]] = Counter()
        self.carried: list[DeliveryRequest] = []
        self.ended: dict[str, tuple[str, str | None]] = {}

    def teardown(self) -> None:
        self.session.close()
        self.outer.rollback()
        self.connection.close()

    def is_open(self, endpoint_id: str) -> bool:
        return find_endpoint(self.session, self.caller, endpoint_id).disabled_at is None

    @rule()
    def an_event_is_told(self) -> None:
        event = publish(self.session, self.caller)
        self.events.add(event.id)
        self.wanted |= {(event.id, endpoint) for endpoint in self.endpoints if self.is_open(endpoint)}

    @rule(free=st.integers(1, 20))
    def a_courier_claims(self, free: int) -> None:
        requests = claim_due(self.session, free=free)
        assert all(self.is_open(request.endpoint_id) for request in requests)
        assert all(request.attempts < len(SCHEDULE) for request in requests)
        self.carried += requests

    @rule(status=st.sampled_from([200, 200, 404, 410, 429, 503]))
    def it_is_answered(self, status: int) -> None:
        if not self.carried:
            return
        request = self.carried.pop(0)
        finish(self.session, [request], answered(status))
        if status == 200:
            self.arrived[request.event_id, request.endpoint_id] += 1

    @rule()
    def the_courier_dies(self) -> None:
        self.carried.clear()

    @rule(seconds=st.sampled_from([1, 31, 3_600, 86_400]))
    def time_passes(self, seconds: int) -> None:
        let_pass(self.session, timedelta(seconds=seconds))

    @rule(number=st.integers(0, 1), enabled=st.booleans())
    def an_endpoint_is_switched(self, number: int, enabled: bool) -> None:
        update_endpoint(self.session, self.caller, self.endpoints[number], EndpointUpdate(enabled=enabled))

    @rule(number=st.integers(0, 1))
    def an_endpoint_recovers(self, number: int) -> None:
        endpoint = self.endpoints[number]
        if self.is_open(endpoint):
            until = now(self.session) + timedelta(seconds=1)
            recover(self.session, self.caller, endpoint, since=self.start, until=until)
            self.wanted |= {(event, endpoint) for event in self.events}

    @rule(number=st.integers(0, 1_000))
    def a_delivery_is_repeated(self, number: int) -> None:
        if not self.ended:
            return
        delivery_id = sorted(self.ended)[number % len(self.ended)]
        # A closed endpoint refuses it, which changes nothing.
        with contextlib.suppress(AppError):
            redeliver(self.session, self.caller, delivery_id)

    @invariant()
    def nothing_is_lost_nothing_is_undone(self) -> None:
        self.session.expire_all()
        rows = self.session.scalars(select(Delivery).where(Delivery.account_id == self.caller.account_id)).all()
        assert {(row.event_id, row.endpoint_id) for row in rows} >= self.wanted
        pending = Counter((row.event_id, row.endpoint_id) for row in rows if row.state == "pending")
        assert all(count == 1 for count in pending.values())
        delivered = {(row.event_id, row.endpoint_id) for row in rows if row.state == "delivered"}
        assert delivered <= set(self.arrived)
        for row in rows:
            assert 0 <= row.attempts <= len(SCHEDULE)
            assert row.id not in self.ended or self.ended[row.id] == (row.state, row.ended_reason)
            if row.state in FINAL:
                self.ended[row.id] = (row.state, row.ended_reason)


@pytest.fixture
def machine(shared_engine: Engine) -> type[Deliveries]:
    Deliveries.engine = shared_engine
    return Deliveries


def run(machine: type[Deliveries], examples: int, steps: int) -> None:
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=quiet),
    )


def test_any_sequence_of_deliveries_loses_nothing(machine: type[Deliveries]):
    run(machine, examples=10, steps=25)


@pytest.mark.deep
def test_any_long_sequence_of_deliveries_loses_nothing(machine: type[Deliveries]):
    run(machine, examples=100, steps=60)
