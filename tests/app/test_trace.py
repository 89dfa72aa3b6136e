"""One trace from the order to its takes and webhooks, carried on the rows; and nothing where no collector is set."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app import trace
from app.db import transaction
from app.events.tables import Event
from app.jobs.tables import Job
from app.settings import child_environment, get_settings
from app.trace import read_traceparent, span
from tests.api_client import World
from tests.app.net.receiver import Receiver
from tests.app.webhooks.couriers import courier_thread

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The spans that a real collector receives over HTTP."""
    received: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    received.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("CINEMETER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    get_settings.cache_clear()
    trace._tracer.cache_clear()
    yield received
    trace._tracer.cache_clear()
    get_settings.cache_clear()
    server.shutdown()
    server.server_close()


def flush() -> None:
    trace._tracer().span_processor.force_flush()


@pytest.mark.parametrize(
    "header", [None, "", "00-0-0-00", PARENT.upper(), PARENT + "\n", "00-" + "0" * 32 + PARENT[35:], "x" * 10_000]
)
def test_a_malformed_parent_is_not_stored(header: str | None) -> None:
    assert read_traceparent(header) is None


def test_without_a_collector_a_span_passes_its_parent_on() -> None:
    with span("take", parent=PARENT) as passed:
        assert passed == PARENT


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, app.trace\n"
        "with app.trace.span('x'): pass\n"
        "sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=child_environment(), check=False).returncode == 0


def test_one_trace_leads_from_the_order_to_the_film(world: World, spans: list[Any]) -> None:
    job = world.post("/v1/videos", ORDER, headers={"traceparent": PARENT}).json()
    world.work()
    flush()
    of_trace = [each for each in spans if each.trace_id.hex() == PARENT.split("-")[1]]
    named = {each.name: each for each in of_trace}
    assert {"request", "segment", "finish"} <= set(named)
    assert named["request"].parent_span_id.hex() == PARENT.split("-")[2]
    for name in ("segment", "finish"):
        assert named[name].parent_span_id == named["request"].span_id
        facts = {each.key: each.value.string_value for each in named[name].attributes}
        assert facts["cinemeter.job_id"] == job["id"]
    with transaction() as session:
        carried = session.get_one(Job, job["id"]).traceparent
        assert carried is not None
        assert carried.split("-")[1:3] == [PARENT.split("-")[1], named["request"].span_id.hex()]
        events = session.query(Event).filter_by(job_id=job["id"]).all()
        assert {event.traceparent for event in events} == {carried}, "deliveries join the trace by their event"


def test_a_delivery_joins_the_trace_of_its_order(
    world: World, spans: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CINEMETER_WEBHOOK_ALLOW_PRIVATE", "1")
    get_settings.cache_clear()
    with Receiver() as receiver:
        order = {**ORDER, "callback_url": receiver.url("/ok")}
        job = world.post("/v1/videos", order, headers={"traceparent": PARENT}).json()
        world.work()
        with courier_thread():
            assert receiver.wait_for(lambda requests: len(requests) == 1)
    flush()
    [delivery] = [each for each in spans if each.name == "delivery"]
    [request] = [each for each in spans if each.name == "request" and each.trace_id == delivery.trace_id]
    assert delivery.trace_id.hex() == PARENT.split("-")[1]
    assert delivery.parent_span_id == request.span_id
    assert json.loads(receiver.requests[0].body)["data"]["id"] == job["id"]
